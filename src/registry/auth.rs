//! Who may come in: basic authentication, against passwords in the open or in the form that `htpasswd -B` writes.
//!
//! A password in bcrypt's form costs some 50 ms to try, on purpose. So one that was right is remembered (as a hash, in memory), and wrong
//! ones are tried one at a time: guessing takes one processor at most, and pulls go on.
//!
//! See it: `curl -i -u teacher:secret localhost:5000/v2/`. Source: RFC 7617; distribution specification, "Authentication".

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::http::{HeaderValue, header};
use ring::digest::{SHA256, digest};

use super::answer::{Code, Refusal, refuse};
use crate::error::{Doing, Error, Result};

/// Longer names and passwords are nobody's.
const LONGEST: usize = 1024;

type Hash = [u8; 32];

/// Users and their passwords.
pub struct Auth {
    users: BTreeMap<String, Secret>,
    /// What was right lately.
    known: Mutex<Vec<Hash>>,
}

enum Secret {
    /// The hash of user and password: what is compared has the same length whatever they are.
    Plain(Hash),
    Bcrypt(String),
}

impl Auth {
    /// One user with this password: `teacher:secret`.
    ///
    /// # Errors
    /// Invalid without a colon, a name or a password.
    pub fn of_pair(pair: &str) -> Result<Auth> {
        let (user, password) = split(pair).ok_or_else(|| Error::invalid("take the user and password", "they are written USER:PASSWORD"))?;
        Ok(Auth::of(BTreeMap::from([(user.to_string(), Secret::Plain(hash(user, password)))])))
    }

    /// The users of a file such as `htpasswd -B` writes, one `USER:$2y$…` a line.
    ///
    /// # Errors
    /// NotFound; Invalid for hashes of other forms, which are weak.
    pub fn of_htpasswd(path: &Path) -> Result<Auth> {
        let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
            let wrong =
                |why: &str| Error::invalid(format!("read {}, line {}", path.display(), at + 1), why).hint("htpasswd -B FILE USER writes such lines");
            let (user, form) = split(line.trim()).ok_or_else(|| wrong("a line is USER:HASH"))?;
            if !["$2y$", "$2a$", "$2b$"].iter().any(|mark| form.starts_with(mark)) {
                return Err(wrong("only passwords in bcrypt's form ($2y$…) are taken: the other forms are soon guessed"));
            }
            users.insert(user.to_string(), Secret::Bcrypt(form.to_string()));
        }
        match users.is_empty() {
            true => Err(Error::invalid(format!("read {}", path.display()), "there is no user in it")),
            false => Ok(Auth::of(users)),
        }
    }

    fn of(users: BTreeMap<String, Secret>) -> Auth {
        Auth { users, known: Mutex::default() }
    }

    /// Whether this request's sender is one of the users.
    ///
    /// # Errors
    /// 401, with the challenge that makes clients ask for a password.
    pub fn check(&self, header: Option<&HeaderValue>) -> Result<(), Refusal> {
        let told = header.and_then(|value| value.to_str().ok()).and_then(credentials);
        match told {
            Some((user, password)) if self.is_right(&user, &password) => Ok(()),
            told => {
                let words = if told.is_some() { "the user or the password is wrong" } else { "this registry asks for a user and a password" };
                let challenge = "Basic realm=\"onggi registry\", charset=\"UTF-8\"";
                Err(refuse(401, Code::Unauthorized, words).with(header::WWW_AUTHENTICATE, challenge))
            }
        }
    }

    fn is_right(&self, user: &str, password: &str) -> bool {
        let told = hash(user, password);
        match self.users.get(user) {
            Some(Secret::Plain(hash)) => is_same(hash, &told),
            Some(Secret::Bcrypt(form)) => {
                // Held while one is tried: the others wait.
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.iter().any(|hash| is_same(hash, &told)) {
                    return true;
                }
                let is_right = bcrypt::verify(password, form).unwrap_or(false);
                if is_right {
                    known.push(told);
                }
                is_right
            }
            None => false,
        }
    }
}

/// `Basic dGVhY2hlcjpzZWNyZXQ=`
fn credentials(value: &str) -> Option<(String, String)> {
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > 2 * LONGEST {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    split(&pair).map(|(user, password)| (user.to_string(), password.to_string()))
}

fn split(pair: &str) -> Option<(&str, &str)> {
    pair.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty() && pair.len() <= LONGEST)
}

fn hash(user: &str, password: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, &[user.as_bytes(), &[0], password.as_bytes()].concat()).as_ref());
    hash
}

/// Compares without ending early: how long it takes says nothing of where they differ.
fn is_same(one: &Hash, other: &Hash) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(pair: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).unwrap()
    }

    #[test]
    fn only_the_right_pair_comes_in() {
        let auth = Auth::of_pair("teacher:s:ecret").unwrap();
        assert!(auth.check(Some(&basic("teacher:s:ecret"))).is_ok());
        for wrong in ["teacher:s", "teacher:", "x:s:ecret", "teacher", ":", "teacher:s:ecret\0"] {
            assert_eq!(auth.check(Some(&basic(wrong))).unwrap_err().status, 401, "{wrong}");
        }
        assert_eq!(auth.check(Some(&HeaderValue::from_static("Bearer x"))).unwrap_err().status, 401);
        assert_eq!(auth.check(None).unwrap_err().headers.len(), 1);
        assert!(Auth::of_pair("teacher").is_err() && Auth::of_pair(":x").is_err());
    }
}
