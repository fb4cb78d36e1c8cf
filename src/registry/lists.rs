//! Lists: the tags of a repository, all repositories, and the manifests that refer to another one.
//!
//! A list is given in pages of `?n=`, each saying where the next one begins (`Link`).
//!
//! See it: `curl -i 'localhost:5000/v2/_catalog?n=2'`. Source: distribution specification, "Listing Tags", "Listing Referrers"; RFC 8288.

use std::collections::BTreeMap;

use hyper::http::{HeaderName, header};
use serde_json::{Value, json};

use super::answer::{Answer, Code, Refusal, json as answer_json, refuse, set, whole};
use super::layout::Layout;
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, INDEX};

/// A page is no longer than this, whatever is asked.
const LONGEST: usize = 1000;

/// In bytes: a page of referrers, with what they say of themselves, ends after so many.
const LONGEST_REFERRERS: usize = 1 << 20;

/// The names of all repositories, sorted.
///
/// # Errors
/// 400 for an `n` that is no number.
pub fn repositories(layout: &Layout, question: &[(String, String)]) -> Result<Answer, Refusal> {
    let catalog = layout.catalog();
    let (page, next) = page(catalog.repositories.keys().map(String::as_str), question)?;
    Ok(linked(answer_json(200, &json!({"repositories": page})), "/v2/_catalog", next))
}

/// The tags of a repository, sorted.
///
/// # Errors
/// 404 without the repository; 400 for an `n` that is no number.
pub fn tags(layout: &Layout, name: &str, question: &[(String, String)]) -> Result<Answer, Refusal> {
    let catalog = layout.catalog();
    let repository = catalog.repositories.get(name).ok_or_else(|| refuse(404, Code::NameUnknown, format!("there is no repository {name}")))?;
    let (page, next) = page(repository.tags.keys().map(String::as_str), question)?;
    Ok(linked(answer_json(200, &json!({"name": name, "tags": page})), &format!("/v2/{name}/tags/list"), next))
}

/// One page, and the question for the next.
type Page<'a> = (Vec<&'a str>, Option<String>);

fn page<'a>(all: impl Iterator<Item = &'a str>, question: &[(String, String)]) -> Result<Page<'a>, Refusal> {
    let asked = |key: &str| question.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let wrong = || refuse(400, Code::Unsupported, "n is a number: how many are wanted");
    let most = asked("n").map_or(Ok(LONGEST), |n| n.parse::<usize>().map_err(|_| wrong()))?.min(LONGEST);
    let last = asked("last").unwrap_or_default();
    let mut rest = all.filter(|name| last.is_empty() || *name > last).peekable();
    let page: Vec<&str> = rest.by_ref().take(most).collect();
    // A name and a tag have no letters that would have to be written otherwise in a question.
    let next = page.last().filter(|_| rest.peek().is_some()).map(|last| format!("n={most}&last={last}"));
    Ok((page, next))
}

fn linked(mut answer: Answer, address: &str, next: Option<String>) -> Answer {
    if let Some(next) = next {
        set(&mut answer, header::LINK, &format!("<{address}?{next}>; rel=\"next\""));
    }
    answer
}

/// The manifests of this repository whose subject is `digest`, as an index; an empty one when there are none.
pub fn referrers(layout: &Layout, name: &str, digest: &Digest, question: &[(String, String)]) -> Answer {
    let kind = question.iter().find(|(key, value)| key == "artifactType" && !value.is_empty()).map(|(_, kind)| kind.as_str());
    let catalog = layout.catalog();
    let last = question.iter().find(|(key, _)| key == "last").map_or("", |(_, last)| last);
    let lines = catalog.repositories.get(name).into_iter().flat_map(|repository| repository.lines());
    let lines: BTreeMap<&str, &Descriptor> = lines.map(|line| (line.digest.as_str(), line)).filter(|(digest, _)| *digest > last).collect();
    let (mut manifests, mut length, mut next) = (Vec::new(), 0, None);
    for line in lines.into_values() {
        if length > LONGEST_REFERRERS {
            next = manifests.last().map(|last: &Value| format!("last={}", last["digest"].as_str().unwrap_or_default()));
            break;
        }
        let Some(described) = layout.described(&line.digest) else { continue };
        let refers = described.subject.as_ref().is_some_and(|subject| subject.digest == *digest);
        if !refers || kind.is_some_and(|kind| described.kind() != Some(kind)) {
            continue;
        }
        let mut referrer = json!({"mediaType": line.media_type, "digest": line.digest, "size": line.size});
        if let Some(kind) = described.kind() {
            referrer["artifactType"] = json!(kind);
        }
        if let Some(annotations) = described.annotations.filter(|annotations| !annotations.is_empty()) {
            referrer["annotations"] = json!(annotations);
        }
        length += referrer.to_string().len();
        manifests.push(referrer);
    }
    let index: Value = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let kinds = kind.map(|kind| format!("&artifactType={}", kind.replace('+', "%2B"))).unwrap_or_default();
    let next = next.map(|next| format!("{next}{kinds}"));
    let mut answer = linked(whole(200, INDEX, index.to_string()), &format!("/v2/{name}/referrers/{digest}"), next);
    if kind.is_some() {
        set(&mut answer, HeaderName::from_static("oci-filters-applied"), "artifactType");
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_long_list_comes_in_pages_and_the_last_one_has_no_next() {
        let all = || ["a", "b", "c"].into_iter();
        assert_eq!(page(all(), &asked(&[("n", "2")])).unwrap(), (vec!["a", "b"], Some("n=2&last=b".into())));
        assert_eq!(page(all(), &asked(&[("n", "2"), ("last", "b")])).unwrap(), (vec!["c"], None));
        assert_eq!(page(all(), &asked(&[("n", "0")])).unwrap(), (vec![], None));
        assert_eq!(page(all(), &[]).unwrap().0.len(), 3);
        assert!(page(all(), &asked(&[("n", "many")])).is_err());
    }
}
