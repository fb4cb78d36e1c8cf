//! For which machine an image is: `linux/arm64/v8`.
//!
//! Source: OCI image specification, image-index.md; containerd's rules for what people write instead.

pub use super::manifest::Platform;
use super::manifest::{self, Descriptor};
use crate::error::{Error, Result};

/// This machine.
pub fn host() -> Platform {
    Platform { architecture: manifest::architecture().into(), os: "linux".into(), ..Platform::default() }
}

/// Reads `os/architecture[/variant]`, or one of them alone.
///
/// # Errors
/// Invalid for other forms, and for an operating system that no container here can have.
pub fn parse(text: &str) -> Result<Platform> {
    let wrong = |why: String| Error::invalid(format!("read the platform {text:?}"), why).hint("it is written as linux/amd64 or linux/arm64/v8");
    let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
    if parts.iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))) {
        return Err(wrong("a part is empty or has other letters than a-z, 0-9, _ . -".into()));
    }
    let (os, architecture, variant) = match &parts[..] {
        [one] if matches!(one.as_str(), "linux" | "windows" | "darwin" | "freebsd") => (one.clone(), manifest::architecture().into(), None),
        [one] => ("linux".into(), one.clone(), None),
        [os, architecture] => (os.clone(), architecture.clone(), None),
        [os, architecture, variant] => (os.clone(), architecture.clone(), Some(variant.clone())),
        _ => return Err(wrong("it has more than three parts".into())),
    };
    if os != "linux" {
        return Err(wrong(format!("containers of {os} don't run on Linux")));
    }
    let (architecture, usual) = match architecture.as_str() {
        "x86_64" | "x86-64" => ("amd64".into(), None),
        "aarch64" => ("arm64".into(), None),
        "armhf" => ("arm".into(), Some("v7".into())),
        "armel" => ("arm".into(), Some("v6".into())),
        "i386" => ("386".into(), None),
        _ => (architecture, None),
    };
    let variant = variant.or(usual).filter(|variant| !(architecture == "arm64" && matches!(variant.as_str(), "v8" | "8")));
    Ok(Platform { architecture, os, variant, os_version: None })
}

/// `linux/arm/v7`
pub fn name(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// Whether an image for `offered` is one for `wanted`.
pub fn fits(wanted: &Platform, offered: &Platform) -> bool {
    let is_variant = match (&wanted.variant, offered.variant.as_deref()) {
        (Some(wanted), offered) => offered == Some(wanted),
        // Without a word on it: the one that every machine of this kind runs.
        (None, None | Some("v1")) => true,
        (None, Some(offered)) => offered == "v8" || wanted.architecture == "arm",
    };
    wanted.os == offered.os && wanted.architecture == offered.architecture && is_variant
}

/// The image for this platform among several: of those that fit, the one without a variant first.
pub fn choose<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let fitting = manifests.iter().filter(|one| one.platform.as_ref().is_some_and(|offered| fits(wanted, offered)));
    fitting.min_by_key(|one| one.platform.as_ref().is_some_and(|offered| offered.variant.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_means_a_platform() {
        for (text, full) in [
            ("linux/amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("arm64/v8", ""),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("LINUX/AMD64", "linux/amd64"),
            ("windows/amd64", ""),
            ("a/b/c/d", ""),
            ("linux/", ""),
            ("", ""),
        ] {
            assert_eq!(parse(text).map(|platform| name(&platform)).unwrap_or_default(), full, "{text}");
        }
        assert_eq!(parse("linux").unwrap(), host());
    }

    #[test]
    fn the_plain_one_is_chosen_and_what_is_for_nobody_is_not() {
        let one = |platform: Option<&str>| {
            let mut descriptor = Descriptor::new(manifest::MANIFEST, super::super::digest::Digest::of(platform.unwrap_or("").as_bytes()), 1);
            descriptor.platform = platform.map(|text| {
                let parts: Vec<&str> = text.split('/').collect();
                let variant = parts.get(2).map(|variant| variant.to_string());
                Platform { os: parts[0].into(), architecture: parts[1].into(), variant, os_version: None }
            });
            descriptor
        };
        let all = [one(Some("unknown/unknown")), one(None), one(Some("linux/arm64/v8")), one(Some("linux/amd64/v3")), one(Some("linux/amd64"))];
        assert_eq!(choose(&all, &parse("linux/amd64").unwrap()), Some(&all[4]));
        assert_eq!(choose(&all, &parse("linux/arm64").unwrap()), Some(&all[2]));
        assert_eq!(choose(&all, &parse("linux/amd64/v3").unwrap()), Some(&all[3]));
        assert_eq!(choose(&all, &parse("linux/s390x").unwrap()), None);
    }
}
