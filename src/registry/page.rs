//! The page for people: which images there are, what they are made of, and what to type to have them.
//!
//! It is made here whole: no script, nothing from elsewhere, and each word that came from outside escaped.
//!
//! See it: a browser at the address that `onggi registry serve` says. Source: Content Security Policy Level 3.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::http::{HeaderMap, header};
use ring::digest::{SHA256, digest};

use super::answer::{Answer, set, whole};
use super::clients::Reached;
use super::counts::size;
use super::page_images::{Image, Variant, images};
use super::page_words::{Words, words};
use super::server::Registry;
use crate::image::digest::Digest;

/// More images than this are counted, and not shown.
const MOST: usize = 200;

const STYLE: &str = include_str!("page.css");

/// The page, in the language that the browser asks for.
pub fn page(registry: &Registry, headers: &HeaderMap) -> Answer {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let words = words(header(header::ACCEPT_LANGUAGE));
    let mirror_of = registry.mirror.as_ref().map(|mirror| mirror.registry().to_string());
    let mut reached = Reached::at(registry.address, registry.certificate.is_some(), mirror_of);
    // The address that worked for this reader is the best for the commands, too.
    let host = header(header::HOST);
    if !host.is_empty() && host.len() < 260 && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)) {
        reached.hosts.insert(0, host.to_string());
    }
    let mut answer = whole(200, "text/html; charset=utf-8", document(registry, words, &reached));
    set(&mut answer, header::CONTENT_SECURITY_POLICY, policy());
    set(&mut answer, header::REFERRER_POLICY, "no-referrer");
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::VARY, "Accept-Language");
    answer
}

/// Nothing but our own style, known by its hash.
fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    })
}

fn document(registry: &Registry, words: &Words, reached: &Reached) -> String {
    let (images, all) = images(&registry.layout, MOST);
    let mut out = String::with_capacity(64 << 10);
    // Writing to a String can't fail.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"url\">{}</p>\n",
        words.lang,
        escaped(&reached.url(reached.host())),
        title = words.title
    );
    if let Some(outside) = &reached.mirror_of {
        let _ = writeln!(out, "<p>{} <b>{}</b></p>", words.mirror_of, escaped(outside));
    }
    if registry.read_only {
        let _ = writeln!(out, "<p>{}</p>", words.read_only);
    }
    counts(&mut out, registry, words);
    let _ = writeln!(out, "</header>");
    setting_up(&mut out, words, reached);
    let _ = writeln!(out, "<main>\n<h2>{} <small>{all}</small></h2>", words.images);
    if images.is_empty() {
        let host = escaped(reached.host());
        let _ = writeln!(out, "<p>{}</p>\n<p>{}</p>", words.no_images, words.push_one);
        commands(&mut out, &[format!("docker tag web {host}/team/web:1"), format!("docker push {host}/team/web:1")]);
    }
    let mut uses: BTreeMap<&Digest, usize> = BTreeMap::new();
    for layer in images.iter().flat_map(|image| image.layers()) {
        *uses.entry(layer).or_default() += 1;
    }
    images.iter().for_each(|one| image(&mut out, words, reached, one, &uses));
    if all > images.len() {
        let _ = writeln!(out, "<p>{}{}</p>", all - images.len(), words.more);
    }
    let _ = writeln!(out, "</main>\n</body>\n</html>");
    out
}

fn counts(out: &mut String, registry: &Registry, words: &Words) {
    let [served, received, fetched, saved] = registry.counts.all().map(size);
    let _ = writeln!(out, "<dl class=\"counts\">");
    for (number, what) in [(saved, words.saved), (served, words.served), (fetched, words.fetched), (received, words.received)] {
        let _ = writeln!(out, "<div><dd>{number}</dd><dt>{what}</dt></div>");
    }
    let _ = writeln!(out, "</dl>");
}

fn setting_up(out: &mut String, words: &Words, reached: &Reached) {
    let _ = writeln!(out, "<details class=\"setup\"><summary>{}</summary>\n<p>{}</p>", words.setting_up, words.setting_up_once);
    let podman = reached.for_podman().join("\n");
    let ways = [("onggi", reached.for_onggi()), ("docker", reached.for_docker()), ("podman: /etc/containers/registries.conf.d/onggi.conf", podman)];
    for (client, setting) in ways {
        let _ = writeln!(out, "<h3>{client}</h3>\n<pre>{}</pre>", escaped(&setting));
    }
    if reached.is_tls {
        let _ = writeln!(out, "<p><a href=\"/ca.crt\">{}</a></p>", words.certificate);
    }
    let _ = writeln!(out, "</details>");
}

fn image(out: &mut String, words: &Words, reached: &Reached, image: &Image, uses: &BTreeMap<&Digest, usize>) {
    let name = escaped(&image.name);
    let total: u64 = image.variants.iter().filter(|variant| variant.is_here).map(|variant| variant.size).sum();
    let platforms: Vec<String> = image.variants.iter().map(|variant| escaped(&variant.platform)).collect();
    let _ = writeln!(
        out,
        "<details class=\"image\">\n<summary><b>{name}</b> <span class=\"platform\">{}</span> <span class=\"size\">{}</span></summary>",
        platforms.join(", "),
        size(total)
    );
    let host = escaped(reached.host());
    let _ = writeln!(out, "<p>{}</p>", words.pull_it);
    commands(out, &[format!("docker pull {host}/{name}"), format!("onggi pull {host}/{name}")]);
    let _ = writeln!(out, "<p class=\"digest\">{}</p>", image.digest);
    image.variants.iter().for_each(|variant| layers(out, words, variant, uses));
    let _ = writeln!(out, "</details>");
}

fn layers(out: &mut String, words: &Words, variant: &Variant, uses: &BTreeMap<&Digest, usize>) {
    let (platform, whole) = (escaped(&variant.platform), size(variant.size));
    let _ = writeln!(out, "<h3>{}: {platform}</h3>", words.platform);
    if !variant.is_here {
        let _ = writeln!(out, "<p>{}</p>", words.not_fetched);
        return;
    }
    let _ = writeln!(out, "<table><tr><th>{}</th><th class=\"n\">{}</th><th>{}</th></tr>", words.layer, words.size, words.shared);
    for layer in &variant.layers {
        let users = match uses.get(&layer.digest) {
            Some(&count) if count > 1 => format!("{count}{}", words.shared_with),
            _ => words.own.to_string(),
        };
        let (short, digest, size) = (layer.digest.short(), &layer.digest, size(layer.size));
        let _ = writeln!(out, "<tr><td title=\"{digest}\"><code>{short}</code></td><td class=\"n\">{size}</td><td>{users}</td></tr>");
    }
    if variant.more > 0 {
        let _ = writeln!(out, "<tr><td>… +{}</td></tr>", variant.more);
    }
    let _ = writeln!(out, "<tr class=\"sum\"><td></td><td class=\"n\">{whole}</td><td></td></tr></table>");
}

fn commands(out: &mut String, lines: &[String]) {
    let _ = writeln!(out, "<pre>{}</pre>", lines.join("\n"));
}

/// Text as HTML has it, between tags and in quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_from_outside_becomes_a_tag() {
        assert_eq!(escaped("<script>\"x\" & 'y'"), "&lt;script&gt;&quot;x&quot; &amp; &#39;y&#39;");
        assert!(!STYLE.contains("url(") && !STYLE.contains('<'));
    }
}
