//! Who we are to a registry: names, passwords and tokens, where Docker keeps them, so that one `login` is good for both.
//!
//! ```text
//! ~/.docker/config.json   {"auths": {"lab:5000": {"auth": base64("user:password")}},       here, for all who can read the file
//! ($DOCKER_CONFIG)         "credsStore": "secretservice",                                  in the desktop's keyring, by a program
//!                          "credHelpers": {"gcr.io": "gcloud"}}                            another program for one registry
//! ```
//! The Hub's key is `https://index.docker.io/v1/`; older files have URLs for other registries too, of which the host counts.
//!
//! See it: `jq .auths ~/.docker/config.json`. Read: docker-login(1), "Credential stores".

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::credential_program::{self as program, Found};
use super::settings_file::{self, Members};
use super::trust;
use crate::error::{Class, Error, Result};

/// Under this Docker keeps what is for the Hub.
pub const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What is shown to a registry, or to the server that gives tokens for it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// What a token server gave in exchange for a password: good for tokens, and revocable.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password {{ user: {user:?}, .. }}"),
            Credentials::IdentityToken(_) => write!(f, "IdentityToken(..)"),
        }
    }
}

/// Where credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Readable for whoever may read this file.
    File(PathBuf),
    /// With `docker-credential-NAME`.
    Program(String),
}

/// One registry's entry in `auths`.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Entry {
    #[serde(skip_serializing_if = "String::is_empty")]
    auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    identitytoken: String,
}

/// The key under which Docker keeps a registry's credentials.
pub fn key_of(registry: &str) -> &str {
    if registry == super::settings::HUB { HUB_KEY } else { registry }
}

/// The credentials for a registry; None when there are none.
///
/// # Errors
/// Invalid when the file or an entry in it is none of Docker's; EACCES; what the credential program said.
pub fn find(registry: &str) -> Result<Option<Credentials>> {
    match config_file() {
        Some(file) => Config::read(file)?.find(key_of(registry)),
        // Without a home there is nothing to find; images for everybody can be pulled all the same.
        None => Ok(None),
    }
}

/// Keeps the credentials for a registry: where they are now.
///
/// # Errors
/// NotFound without a home; EACCES, ENOSPC; what the credential program said.
pub fn store(registry: &str, user: &str, credentials: &Credentials) -> Result<Place> {
    Config::read(writable_file()?)?.store(key_of(registry), user, credentials)
}

/// Forgets the credentials for a registry: whether there were any.
///
/// # Errors
/// As [`store`].
pub fn erase(registry: &str) -> Result<bool> {
    Config::read(writable_file()?)?.erase(key_of(registry))
}

/// The names of the registries that the file has entries for, as their hosts.
pub fn known() -> Vec<String> {
    let members = config_file().and_then(|file| settings_file::read_members(&file).ok()).unwrap_or_default();
    let auths = members.member::<Members>("auths").unwrap_or_default();
    let name = |key: &str| if key == HUB_KEY { super::settings::HUB } else { host_of(key) }.to_string();
    auths.names().map(name).collect()
}

fn config_file() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    folder.or_else(|| trust::home().map(|home| home.join(".docker"))).map(|folder| folder.join("config.json"))
}

fn writable_file() -> Result<PathBuf> {
    let missing = || Error::new(Class::NotFound, "find a place for credentials", "neither HOME nor DOCKER_CONFIG is set");
    config_file().ok_or_else(|| missing().hint("set DOCKER_CONFIG to a folder of yours"))
}

/// Docker's file, as it is.
struct Config {
    file: PathBuf,
    members: Members,
}

impl Config {
    fn read(file: PathBuf) -> Result<Config> {
        // "config.json" alone would have an empty parent.
        let file = std::path::absolute(&file).unwrap_or(file);
        Ok(Config { members: settings_file::read_members(&file)?, file })
    }

    fn find(&self, key: &str) -> Result<Option<Credentials>> {
        match self.program_for(key)? {
            Some((name, is_for_all)) => match program::find(&name, key)? {
                Found::Credentials(credentials) => Ok(Some(credentials)),
                // Desktops leave their setting behind when they go; for what everybody may pull nothing is needed.
                Found::NoProgram if is_for_all => self.find_in_file(key),
                Found::NoProgram => Err(self.wrong(program::missing(&name, key))),
                Found::Nothing => Ok(None),
            },
            None => self.find_in_file(key),
        }
    }

    fn find_in_file(&self, key: &str) -> Result<Option<Credentials>> {
        let auths = self.auths(&self.members)?;
        let Some(name) = name_in(&auths, key) else { return Ok(None) };
        let entry: Entry = auths.member(&name).map_err(|e| self.wrong(e))?;
        entry.credentials().map_err(|why| self.wrong(Error::invalid(format!("use the entry of {name:?}"), why)))
    }

    fn store(&self, key: &str, user: &str, credentials: &Credentials) -> Result<Place> {
        if let Some((name, _)) = self.program_for(key)? {
            program::store(&name, key, user, credentials)?;
            // As Docker does: the file says that there is something, and not what.
            self.change_auths(|auths| auths.set(key, &Members::default()).map(|()| true))?;
            return Ok(Place::Program(name));
        }
        let entry = Entry::of(user, credentials)?;
        self.change_auths(|auths| {
            remove_all(auths, key);
            auths.set(key, &entry).map(|()| true)
        })?;
        Ok(Place::File(self.file.clone()))
    }

    fn erase(&self, key: &str) -> Result<bool> {
        let mut found = false;
        if let Some((name, _)) = self.program_for(key)? {
            found = matches!(program::find(&name, key)?, Found::Credentials(_));
            program::erase(&name, key)?;
        }
        if names_in(&self.auths(&self.members)?, key).is_empty() {
            return Ok(found);
        }
        self.change_auths(|auths| {
            let was_there = remove_all(auths, key);
            found |= was_there;
            Ok(was_there)
        })?;
        Ok(found)
    }

    /// The program that keeps a registry's credentials, and whether it is the one for all that have none of their own.
    fn program_for(&self, key: &str) -> Result<Option<(String, bool)>> {
        let read = |e| self.wrong(e);
        let special: BTreeMap<String, String> = self.members.member("credHelpers").map_err(read)?;
        let (name, is_for_all) = match special.get(key) {
            Some(name) => (name.clone(), false),
            None => (self.members.member("credsStore").map_err(read)?, true),
        };
        if name.is_empty() {
            return Ok(None);
        }
        program::check_name(&name).map_err(|e| self.wrong(e))?;
        Ok(Some((name, is_for_all)))
    }

    fn auths(&self, members: &Members) -> Result<Members> {
        members.member("auths").map_err(|e| self.wrong(e))
    }

    fn change_auths(&self, change: impl FnOnce(&mut Members) -> Result<bool>) -> Result<()> {
        settings_file::edit(&self.file, |members| {
            let mut auths = self.auths(members)?;
            let is_new = change(&mut auths)?;
            members.set("auths", &auths)?;
            Ok(is_new)
        })
    }

    /// The failure with the file that is to blame.
    fn wrong(&self, error: Error) -> Error {
        let hint = format!("see {}", self.file.display());
        let hint = error.hint.as_ref().map_or(hint.clone(), |told| format!("{told}; {hint}"));
        error.hint(hint)
    }
}

/// The entry that Docker takes for a key: its own, or the first of the same host.
fn name_in(auths: &Members, key: &str) -> Option<String> {
    if auths.has(key) {
        return Some(key.to_string());
    }
    names_in(auths, key).into_iter().next()
}

/// All entries for a key's host. `https://index.docker.io/v1/access-token` is none of the Hub's registry.
fn names_in(auths: &Members, key: &str) -> Vec<String> {
    let is_it = |name: &&str| *name == key || (key != HUB_KEY && host_of(name) == key);
    auths.names().filter(is_it).map(String::from).collect()
}

/// Takes all entries for a key's host away: whether there were any.
fn remove_all(auths: &mut Members, key: &str) -> bool {
    let names = names_in(auths, key);
    for name in &names {
        auths.remove(name);
    }
    !names.is_empty()
}

/// `https://lab:5000/v2/` is the host `lab:5000`.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

impl Entry {
    fn of(user: &str, credentials: &Credentials) -> Result<Entry> {
        // What stands before the first colon is the user.
        if user.contains(':') {
            return Err(Error::invalid("keep the credentials", format!("the user's name {user:?} has a colon in it")));
        }
        let auth = |password: &str| BASE64.encode(format!("{user}:{password}"));
        Ok(match credentials {
            Credentials::Password { password, .. } => Entry { auth: auth(password), ..Entry::default() },
            Credentials::IdentityToken(token) => Entry { auth: auth(""), identitytoken: token.clone(), ..Entry::default() },
        })
    }

    fn credentials(self) -> std::result::Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken)));
        }
        let (user, password) = match self.auth.is_empty() {
            true => (self.username, self.password),
            false => decode(&self.auth)?,
        };
        Ok((!user.is_empty()).then_some(Credentials::Password { user, password }))
    }
}

/// `base64("user:password")`, with or without its padding.
fn decode(auth: &str) -> std::result::Result<(String, String), &'static str> {
    const TOLERANT: GeneralPurpose =
        GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let bytes = TOLERANT.decode(auth.trim()).map_err(|_| "its \"auth\" is no base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "its \"auth\" is no text")?;
    let (user, password) = text.split_once(':').ok_or("its \"auth\" is not user:password")?;
    Ok((user.to_string(), password.trim_matches('\0').to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Folder;

    fn config(folder: &Folder, text: &str) -> Config {
        let file = folder.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        Config::read(file).unwrap()
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn dockers_entries_are_read_under_each_kind_of_key() {
        let folder = Folder::new();
        let config = config(
            &folder,
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "bWU6YTpi"},
                "lab:5000": {"auth": "bWU6eA=="},
                "https://old.lab/v1/": {"auth": "bWU6eQ=="},
                "plain": {"username": "me", "password": "z"},
                "token": {"auth": "bWU6", "identitytoken": "t0"},
                "unpadded": {"auth": "bWU6eA"},
                "empty": {},
                "odd": {"auth": "secret!"},
                "colonless": {"auth": "c2VjcmV0"}
            }}"#,
        );
        assert_eq!(config.find(key_of("docker.io")).unwrap(), Some(password("me", "a:b")));
        assert_eq!(config.find("lab:5000").unwrap(), Some(password("me", "x")));
        assert_eq!(config.find("old.lab").unwrap(), Some(password("me", "y")));
        assert_eq!(config.find("plain").unwrap(), Some(password("me", "z")));
        assert_eq!(config.find("token").unwrap(), Some(Credentials::IdentityToken("t0".into())));
        assert_eq!(config.find("unpadded").unwrap(), Some(password("me", "x")));
        assert_eq!((config.find("empty").unwrap(), config.find("lab").unwrap()), (None, None));
        for odd in ["odd", "colonless"] {
            let error = config.find(odd).unwrap_err().to_string();
            assert!(error.contains(odd) && error.contains("config.json") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_stored_is_found_and_all_else_stays() {
        let folder = Folder::new();
        let before =
            config(&folder, r#"{"psFormat": "{{.ID}}", "auths": {"https://lab:5000": {"auth": "bWU6b2xk"}, "other": {"auth": "bWU6eA=="}}, "z": 1}"#);
        before.store("lab:5000", "me", &password("me", "p:w")).unwrap();
        let text = std::fs::read_to_string(&before.file).unwrap();
        let expected = "{\n\t\"psFormat\": \"{{.ID}}\",\n\t\"auths\": {\n\t\t\"other\": {\n\t\t\t\"auth\": \"bWU6eA==\"\n\t\t},\n\t\t\"lab:5000\": {\n\t\t\t\"auth\": \
                        \"bWU6cDp3\"\n\t\t}\n\t},\n\t\"z\": 1\n}";
        assert_eq!(text, expected);
        let after = Config::read(before.file.clone()).unwrap();
        assert_eq!(after.find("lab:5000").unwrap(), Some(password("me", "p:w")));
        assert!(after.erase("lab:5000").unwrap());
        let after = Config::read(before.file).unwrap();
        assert!(!after.erase("lab:5000").unwrap() && after.find("other").unwrap().is_some());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", password("me", "secret"), Credentials::IdentityToken("secret".into()));
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_program_of_another_folder_is_refused() {
        let folder = Folder::new();
        for name in ["../evil", "/bin/sh", "a b", "."] {
            let config = config(&folder, &format!(r#"{{"credsStore": "{name}"}}"#));
            assert!(config.find("lab").unwrap_err().to_string().contains("config.json"), "{name}");
        }
    }

    #[test]
    fn a_desktop_that_is_gone_does_not_stop_who_needs_no_password() {
        let folder = Folder::new();
        let config = config(&folder, r#"{"credsStore": "gone-with-the-desktop", "credHelpers": {"lab": "gone-too"}}"#);
        assert_eq!(config.find("other").unwrap(), None);
        assert!(config.find("lab").unwrap_err().to_string().contains("docker-credential-gone-too"));
    }
}
