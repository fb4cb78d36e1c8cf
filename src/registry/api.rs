//! From a request to its answer: who asks, what for, and which verb.
//!
//! See it: `curl -i localhost:5000/v2/`. Source: distribution specification, "Endpoints".

use std::net::IpAddr;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::http::{HeaderName, Method, header};
use hyper::{Request, body::Bytes};

use super::answer::{Answer, Code, Refusal, json, refuse, set, whole};
use super::body;
use super::route::{Route, question, route};
use super::server::Registry;
use super::{blobs, lists, manifests, page, uploading};

/// The answer to a request, whatever it is.
pub async fn answer(registry: &Registry, from: IpAddr, request: Request<Incoming>) -> Answer {
    let (parts, mut body) = request.into_parts();
    let mut answer = match granted(registry, &parts, &mut body).await {
        Ok(answer) => answer,
        Err(refusal) => {
            body::drain(&parts.headers, &mut body).await;
            refusal.answer()
        }
    };
    // By this Docker's clients know that they speak to a registry.
    set(&mut answer, HeaderName::from_static("docker-distribution-api-version"), "registry/2.0");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if registry.is_crowded() {
        set(&mut answer, header::CONNECTION, "close");
    }
    if let Some(tell) = &registry.tell {
        tell(&line(from, &parts, &answer));
    }
    answer
}

/// `192.168.0.7 GET /v2/team/web/manifests/1 200 349 B`
fn line(from: IpAddr, parts: &Parts, answer: &Answer) -> String {
    let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.map(|length| format!(" {length} B")).unwrap_or_default();
    // A stranger's words, on somebody's terminal.
    let place: String = parts.uri.to_string().chars().take(300).map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect();
    format!("{from} {} {place} {}{length}", parts.method, answer.status().as_u16())
}

async fn granted(registry: &Registry, parts: &Parts, body: &mut Incoming) -> Result<Answer, Refusal> {
    if let Some(auth) = &registry.auth {
        auth.check(parts.headers.get(header::AUTHORIZATION))?;
    }
    let route = route(parts.uri.path())?;
    let (reads, head) = (matches!(parts.method, Method::GET | Method::HEAD), parts.method == Method::HEAD);
    if registry.read_only && !reads {
        let refusal = refuse(405, Code::Unsupported, "this registry is read-only: images can be pulled from it, and not pushed or deleted");
        return Err(refusal.with(header::ALLOW, "GET, HEAD"));
    }
    let question = question(parts.uri.query().unwrap_or_default());
    let (method, headers) = (&parts.method, &parts.headers);
    match route {
        Route::Page if reads => Ok(page::page(registry, headers)),
        Route::Certificate if reads => certificate(registry),
        Route::Version if reads => Ok(json(200, &serde_json::json!({}))),
        Route::Catalog if reads => lists::repositories(&registry.layout, &question),
        Route::Tags(name) if reads => lists::tags(&registry.layout, &name, &question),
        Route::Referrers(name, digest) if reads => Ok(lists::referrers(&registry.layout, &name, &digest, &question)),
        Route::Manifest(name, place) if reads => manifests::manifest(registry, &name, &place, head),
        Route::Manifest(name, place) if method == Method::PUT => manifests::put(registry, &name, &place, headers, body).await,
        Route::Manifest(name, place) if method == Method::DELETE => manifests::delete(registry, &name, &place),
        Route::Blob(name, digest) if reads => {
            let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
            blobs::blob(registry, &name, &digest, range, head)
        }
        Route::Blob(name, digest) if method == Method::DELETE => blobs::delete(registry, &name, &digest),
        Route::Uploads(name) if method == Method::POST => uploading::begin(registry, &name, &question, body).await,
        Route::Upload(name, id) if reads => uploading::status(registry, &name, &id),
        Route::Upload(name, id) if method == Method::PATCH => uploading::piece(registry, &name, &id, headers, body).await,
        Route::Upload(name, id) if method == Method::PUT => uploading::end(registry, (&name, &id), &question, headers, body).await,
        Route::Upload(name, id) if method == Method::DELETE => uploading::cancel(registry, &name, &id),
        other => Err(refuse(405, Code::Unsupported, format!("{method} can't be done here")).with(header::ALLOW, allowed(&other))),
    }
}

fn allowed(route: &Route) -> &'static str {
    match route {
        Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
        Route::Blob(..) => "GET, HEAD, DELETE",
        Route::Uploads(_) => "POST",
        Route::Upload(..) => "GET, PATCH, PUT, DELETE",
        _ => "GET, HEAD",
    }
}

fn certificate(registry: &Registry) -> Result<Answer, Refusal> {
    let certificate =
        registry.certificate.clone().ok_or_else(|| refuse(404, Code::Unknown, "this registry has no certificate: it speaks plain HTTP"))?;
    Ok(whole(200, "application/x-pem-file", Bytes::from(certificate)))
}
