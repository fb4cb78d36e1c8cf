//! Which containers need which images: what the image store asks before it removes anything.
//!
//! See it: `jq .imageId /var/lib/onggi/containers/*/container.json`.

use super::home::Home;
use super::record;
use crate::error::{Class, Result};
use crate::image::base;
use crate::image::collect::User;
use crate::image::manifest::ImageConfig;
use crate::image::platform::{self, Platform};
use crate::image::resolve::{config_of, find, for_this_machine};
use crate::image::store::Store;

/// When the image of a container is pulled before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    Always,
    #[default]
    Missing,
    Never,
}

/// Whether an image is to be pulled before a container of it is made. `base` never is: it is made here.
///
/// # Errors
/// Invalid when the store is damaged, Conflict when several IDs begin like the name.
pub fn is_to_be_pulled(store: &Store, name: &str, policy: Policy, wanted: Option<&Platform>) -> Result<bool> {
    if policy == Policy::Never || base::is_meant(name) {
        return Ok(false);
    }
    let found = match find(store, &store.repositories()?, name) {
        Err(e) if e.class == Class::NotFound => return Ok(true),
        found => found?,
    };
    let Some(wanted) = wanted else { return Ok(policy == Policy::Always) };
    let (_, manifest) = for_this_machine(store, &found)?;
    let config: ImageConfig = config_of(store, &manifest)?;
    Ok(policy == Policy::Always || !platform::fits(wanted, &config.platform()))
}

/// All containers, as far as images care.
///
/// # Errors
/// Invalid when a record is damaged: then nobody knows what it needs.
pub fn users(home: &Home) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for id in record::ids(home)? {
        let found = record::load(home, &id).and_then(|record| record::definition(home, &id).map(|definition| (record, definition)));
        let (record, definition) = match found {
            // Removed since its name was read.
            Err(e) if e.class == Class::NotFound => continue,
            found => found?,
        };
        let is_running = record.is_active();
        users.push(User { container: record.id, is_running, image: record.image_id, manifest: record.manifest, layers: definition.layers });
    }
    Ok(users)
}
