//! What is answered: the specification's errors in JSON, and the few headers that each answer has.
//!
//! See it: `curl -i localhost:5000/v2/nothing/manifests/here`. Source: distribution specification, "Error Codes".

use hyper::http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::{Response, body::Bytes};
use serde_json::{Value, json};

use super::body::Body;
use crate::error::{Cause, Class, Error};

/// An answer with its body.
pub type Answer = Response<Body>;

/// The specification's names for what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    TooManyRequests,
    Unauthorized,
    Unknown,
    Unsupported,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::Denied => "DENIED",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Unknown => "UNKNOWN",
            Code::Unsupported => "UNSUPPORTED",
        }
    }
}

/// A request that is not granted, and why.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub code: Code,
    pub message: String,
    pub detail: Option<Value>,
    pub headers: Vec<(HeaderName, String)>,
}

/// A refusal in words.
pub fn refuse(status: u16, code: Code, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into(), detail: None, headers: Vec::new() }
}

impl Refusal {
    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Refusal {
        self.headers.push((name, value.into()));
        self
    }

    pub fn detail(mut self, detail: Value) -> Refusal {
        self.detail = Some(detail);
        self
    }

    pub fn answer(self) -> Answer {
        let mut error = json!({"code": self.code.word(), "message": self.message});
        if let Some(detail) = self.detail {
            error["detail"] = detail;
        }
        let mut answer = json(self.status, &json!({"errors": [error]}));
        for (name, value) in self.headers {
            set(&mut answer, name, &value);
        }
        answer
    }
}

/// Our own failures: a full disk is told as such, for that is what a teacher can do something about.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let is_full = matches!(error.cause.as_deref(), Some(Cause::Said(why)) if why.starts_with("ENOSPC") || why.starts_with("EDQUOT"));
        let (status, code) = match error.class {
            _ if is_full => (507, Code::Unknown),
            Class::NotFound => (404, Code::Unknown),
            Class::Invalid => (400, Code::Unknown),
            Class::Conflict => (409, Code::Unknown),
            Class::Unsupported => (400, Code::Unsupported),
            _ => (500, Code::Unknown),
        };
        refuse(status, code, error.one_line())
    }
}

/// An answer without a body.
pub fn empty(status: u16) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
}

/// An answer whose body is this.
pub fn whole(status: u16, content_type: &str, bytes: impl Into<Bytes>) -> Answer {
    let bytes = bytes.into();
    let mut answer = empty(status);
    set(&mut answer, header::CONTENT_TYPE, content_type);
    set(&mut answer, header::CONTENT_LENGTH, &bytes.len().to_string());
    *answer.body_mut() = Body::whole(bytes);
    answer
}

/// An answer in JSON.
pub fn json(status: u16, value: &Value) -> Answer {
    whole(status, "application/json", value.to_string())
}

/// Sets a header; what can't be one is left out.
pub fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// `Docker-Content-Digest`: what this answer's content is called.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
