//! Which containers need which images: what the image store asks before it removes anything.
//!
//! See it: `jq .imageId /var/lib/onggi/containers/*/container.json`.

use super::home::Home;
use super::record;
use crate::error::{Class, Result};
use crate::image::collect::User;

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
