//! The grammar of image names, beside a second reader of it, written down from the expressions of the distribution project.
//!
//! Source: <https://github.com/distribution/reference>, regexp.go, normalize.go, and the examples of its tests.

use std::sync::LazyLock;

use onggi::image::reference::Reference;
use proptest::prelude::*;
use regex_lite::Regex;

/// What their reader finds: domain, path, tag, digest.
type Parts = (String, String, Option<String>, Option<String>);

const COMPONENT: &str = "[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*";

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{label}(?:\.{label})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?");
    let path = format!("{COMPONENT}(?:/{COMPONENT})*");
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][[:xdigit:]]{32,}";
    Regex::new(&format!(r"^(?:({domain})/)?({path})(?::([\w][\w.-]{{0,127}}))?(?:@({digest}))?$")).unwrap()
});

/// ParseNormalizedNamed, TagNameOnly.
fn theirs(text: &str) -> Option<Parts> {
    if Regex::new("^[a-f0-9]{64}$").unwrap().is_match(text) {
        return None;
    }
    let (mut domain, mut remainder) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first => (first, rest.to_string()),
        _ => ("docker.io", text.to_string()),
    };
    if domain == "index.docker.io" {
        domain = "docker.io";
    }
    if domain == "docker.io" && !remainder.contains('/') {
        remainder = format!("library/{remainder}");
    }
    let path = remainder.split(':').next().unwrap_or_default();
    if path.to_lowercase() != path {
        return None;
    }
    let whole = format!("{domain}/{remainder}");
    let found = REFERENCE.captures(&whole)?;
    let part = |at: usize| found.get(at).map(|part| part.as_str().to_string());
    let (domain, path, tag, digest) = (part(1)?, part(2)?, part(3), part(4));
    // digest.Validate: of the algorithms that it knows we know the one that images have.
    let is_digest = |digest: &String| Regex::new("^sha256:[a-f0-9]{64}$").unwrap().is_match(digest);
    if path.len() > 255 || digest.as_ref().is_some_and(|digest| !is_digest(digest)) {
        return None;
    }
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".into()));
    Some((domain, path, tag, digest))
}

fn ours(text: &str) -> Option<Parts> {
    let is = Reference::parse(text).ok()?;
    Some((is.registry, is.repository, is.tag, is.digest.map(|digest| digest.to_string())))
}

/// What we refuse and they take: a port or an address that nobody can reach, and an ID, which they take for a tag of `sha256`.
fn is_out_of_reach(parts: &Parts) -> bool {
    let (domain, path, tag, _) = parts;
    let port = Regex::new(r":([0-9]+)$").unwrap().captures(domain).and_then(|found| Some(found.get(1)?.as_str().to_string()));
    let host = domain.strip_suffix(&port.as_ref().map(|port| format!(":{port}")).unwrap_or_default()).unwrap_or(domain);
    let is_ipv6 = |host: &str| host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok();
    port.is_some_and(|port| port.parse::<u16>().is_err())
        || (host.starts_with('[') && !is_ipv6(host))
        || (path == "library/sha256" && tag.as_ref().is_some_and(|tag| tag.len() == 64))
}

#[track_caller]
fn assert_same(text: &str) {
    match (theirs(text), ours(text)) {
        (Some(parts), None) if is_out_of_reach(&parts) => {}
        (theirs, ours) => assert_eq!(ours, theirs, "{text:?}"),
    }
}

const DIGEST: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[test]
fn the_examples_of_the_distribution_project_are_read_alike() {
    let long = "a/".repeat(128) + "a:tag";
    let fits = "a/".repeat(127) + "a";
    let with_digest =
        ["test.com/repo:tag@", "test:5000/repo@", "test:5000/repo:tag@", "@", "lowercase:Uppercase@", "xn--n3h.com/myimage:xn--n3h.com@"];
    for before in with_digest {
        assert_same(&format!("{before}{DIGEST}"));
        assert_same(&format!("{before}{DIGEST}0"));
        assert_same(&format!("{before}{}", &DIGEST[..50]));
        assert_same(&format!("{before}{}", DIGEST.to_uppercase()));
    }
    for text in [
        "test_com",
        "test.com:tag",
        "test.com:5000",
        "test.com/repo:tag",
        "test:5000/repo",
        "test:5000/repo:tag",
        "",
        ":justtag",
        "repo@",
        "repo@sha256:ffffffffffffffffffffffffffffffffff",
        "validname@invaliddigest:ffff",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "lowercase:Uppercase",
        "domain/a/b",
        "aa/asdf$$^/aa",
        "sub-dom1.foo.com/bar/baz/quux",
        "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
        "b.gcr.io/test.example.com/my-app:test.example.com",
        "xn--n3h.com/myimage:xn--n3h.com",
        "foo_bar.com:8080",
        "foo/foo_bar.com:8080",
        "192.168.1.1",
        "192.168.1.1:tag",
        "192.168.1.1:5000",
        "192.168.1.1/repo",
        "192.168.1.1:5000/repo",
        "192.168.1.1:5000/repo:5050",
        "[2001:db8::1]",
        "[2001:db8::1]:5000",
        "[2001:db8::1]/repo",
        "[2001:db8::1]:5000/repo",
        "[2001:db8::1]:5000/repo:tag",
        "[2001:db8:1:2:3:4:5:6]/repo",
        "[fe80::1%eth0]:5000/repo",
        "[fe80::1%@invalidzone]:5000/repo",
        "[::ffff:1.2.3.4]/repo",
        "[g::1]/x",
        "docker/docker",
        "library/debian",
        "debian",
        "docker.io/docker/docker",
        "docker.io/library/debian",
        "docker.io/debian",
        "index.docker.io/x",
        "index.docker.io/docker/docker",
        "127.0.0.1:5000/docker/docker",
        "127.0.0.1:5000/library/debian",
        "127.0.0.1:5000/debian",
        "localhost",
        "localhost/x",
        "localhost:80/x",
        "LOCALHOST/x",
        "dnsdomain.com/x",
        "Domain.com/x",
        "FOO/bar",
        "foo/Bar",
        "https://github.com/docker/docker",
        "docker/Docker",
        "-docker",
        "-docker/docker",
        "-docker.io/docker/docker",
        "docker///docker",
        "docker.io/docker/Docker",
        "docker.io/docker///docker",
        "1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5c7b9a1f3e5d7c9b1a3f",
        "docker.io/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5c7b9a1f3e5d7c9b1a3f",
        "a..b",
        "a.-b",
        "a__b",
        "a___b",
        "a-----b",
        "a_.b",
        ".a",
        "a.",
        "a:b:c",
        "a:b/c",
        "a:.b",
        "a:-b",
        "a:_b",
        "a/b:c/d",
        "a@b@c",
        "a:latest@",
        "x:0/y",
        "x:99999/y",
        "x:/y",
        ":5/y",
        "한글",
        "web:한글",
        "ä/x",
        "a\nb",
        "a ",
        " a",
        "foo/foo__bar",
        "foo.bar.",
        "foo-/bar",
        "foo/-bar",
        "foo__/bar",
        "_foo/bar",
        "foo//bar",
        "a/",
        "/a",
        "/",
    ] {
        assert_same(text);
    }
    assert_same(&long);
    assert_same(&fits);
    assert_same(&format!("{DIGEST}:x"));
    assert_eq!(ours(&long), None);
    assert!(ours(&fits).is_some() && ours(&format!("{fits}a")).is_none(), "255 letters and no more");
}

/// Pieces of names, put together in any order: nearer to names than letters by chance.
fn nearly_a_name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "a",
            "web",
            "localhost",
            "docker.io",
            "index.docker.io",
            "library",
            "lab",
            "5000",
            "99999",
            "[::1]",
            "sha256",
            "Web",
            "1.2.3.4",
            "v1.0",
        ])
        .prop_map(String::from),
        proptest::sample::select(vec!["/", "/", ":", "@", ".", "_", "__", "-", "--", "___"]).prop_map(String::from),
        Just(DIGEST.to_string()),
        Just(DIGEST[7..].to_string()),
        "[a-zA-Z0-9]{1,3}",
    ];
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_name_is_read_alike_or_refused_alike(text in prop_oneof![4 => nearly_a_name(), 2 => "[a-zA-Z0-9./:@_\\[\\]-]{0,40}", 1 => "\\PC{0,20}"]) {
        assert_same(&text);
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference.clone());
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }
}
