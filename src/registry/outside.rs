//! The registry behind this one, as a mirror asks it.

use std::io::Read;

use super::route::TagOrDigest;
use crate::error::{Class, Error, Result};
use crate::image::digest::Digest;

pub struct Outside {
    pub registry: String,
}

impl Outside {
    pub fn new(registry: String) -> Result<Outside> {
        Ok(Outside { registry })
    }

    pub fn digest_of(&self, _name: &str, _place: &TagOrDigest) -> Result<Option<Digest>> {
        Err(Error::new(Class::System, "ask", ""))
    }

    pub fn manifest(&self, _name: &str, _place: &TagOrDigest) -> Result<(String, Vec<u8>)> {
        Err(Error::new(Class::System, "ask", ""))
    }

    pub fn blob(&self, _name: &str, _digest: &Digest, _from: u64) -> Result<(u64, Option<u64>, Box<dyn Read + Send>)> {
        Err(Error::new(Class::System, "ask", ""))
    }
}
