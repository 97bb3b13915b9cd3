//! Who a step runs as.

use std::str::FromStr;

use serde::Serialize;

/// Largest user or group number; the one above it means "no change" to the kernel.
const ID_MAX: u32 = u32::MAX - 1;
/// Longest user name: LOGIN_NAME_MAX less its NUL would be 255; useradd(8) ends at 32.
const USER_NAME_BYTES_MAX: usize = 32;

/// The user of a step, inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// Uid 0 inside; never uid 0 outside.
    Root,
    /// Written `me`: the caller's uid, gid and name.
    Caller,
    /// Numbers; without a gid the user's group is the image's to say.
    Id {
        /// The user number inside.
        uid: u32,
        /// The group number inside.
        gid: Option<u32>,
    },
    /// A name of the image's `/etc/passwd`.
    Name(String),
}

/// Why a user is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not a name.
    #[error("expected `root`, `me`, a uid, `uid:gid` or a name")]
    Shape,
    /// A number that no user can have.
    #[error("a user or group number is at most {ID_MAX}")]
    TooLarge,
}

impl FromStr for User {
    type Err = UserError;

    fn from_str(text: &str) -> Result<User, UserError> {
        match text {
            "root" => return Ok(User::Root),
            "me" => return Ok(User::Caller),
            _ => {}
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let (uid, gid) = match text.split_once(':') {
                Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
                None => (number(text)?, None),
            };
            return Ok(User::Id { uid, gid });
        }
        let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase() || c == '_';
        let rest = |c: char| first(c) || c.is_ascii_digit() || matches!(c, '-' | '.' | '$');
        let good = text.starts_with(first) && text.chars().all(rest) && text.len() <= USER_NAME_BYTES_MAX;
        if good { Ok(User::Name(text.to_owned())) } else { Err(UserError::Shape) }
    }
}

fn number(text: &str) -> Result<u32, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UserError::Shape);
    }
    text.parse().ok().filter(|id| *id <= ID_MAX).ok_or(UserError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let table = [
            ("root", Ok(User::Root)),
            ("me", Ok(User::Caller)),
            ("0", Ok(User::Id { uid: 0, gid: None })),
            ("1000:100", Ok(User::Id { uid: 1000, gid: Some(100) })),
            ("www-data", Ok(User::Name("www-data".into()))),
            ("_apt", Ok(User::Name("_apt".into()))),
            ("4294967294", Ok(User::Id { uid: ID_MAX, gid: None })),
            ("4294967295", Err(UserError::TooLarge)),
            ("1000:", Err(UserError::Shape)),
            ("1a", Err(UserError::Shape)),
            ("-1", Err(UserError::Shape)),
            ("a b", Err(UserError::Shape)),
            ("a:b", Err(UserError::Shape)),
            ("", Err(UserError::Shape)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }
}
