//! Who a container runs as, from `name|uid[:group|gid]` and the image's own user files.

use super::runtime::User;
use crate::oci::Error;
use crate::oci::error::refuse;

/// The largest id: what is larger wraps to root somewhere (CVE-2024-40635).
const MAX_ID: u32 = i32::MAX as u32;

/// The user files of an image's root filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserFiles {
    /// The root filesystem could not be looked into from here; the text says why.
    Unreadable(String),
    /// There are none.
    #[default]
    None,
    /// They were read; one that is missing is empty.
    Read {
        /// `/etc/passwd`.
        passwd: String,
        /// `/etc/group`.
        group: String,
    },
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl UserFiles {
    // Lines that are not entries are passed over, as libc and Go's reader do.
    fn users(&self) -> impl Iterator<Item = PasswdEntry<'_>> {
        let text = if let Self::Read { passwd, .. } = self { passwd.as_str() } else { "" };
        text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(PasswdEntry { name, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    }

    fn groups(&self) -> impl Iterator<Item = GroupEntry<'_>> {
        let text = if let Self::Read { group, .. } = self { group.as_str() } else { "" };
        text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, _, gid, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(GroupEntry { name, gid: gid.parse().ok()?, members })
        })
    }

    /// Says why a name was not found.
    fn missing(&self, text: &str, file: &str) -> Error {
        let reason = match self {
            Self::Unreadable(why) => format!("its root filesystem cannot be looked into ({why}); give UID:GID"),
            Self::None | Self::Read { .. } => format!("it is not in the image's {file}"),
        };
        refuse("user", text, reason)
    }
}

/// Works out user, group and additional groups of a text that a user gave.
///
/// A number that `/etc/passwd` does not have gets group 0. Additional groups are those whose members name the user, and the
/// primary group comes first among them. Where the text has a group, that is the only one (the image specification's
/// `config.md`, and containerd 2.1 with `ctr run --user`).
///
/// # Errors
/// [`Error::Option`] when the text is malformed, an id is too large, or a name is not in the image.
pub fn resolve_user(text: &str, files: &UserFiles) -> Result<User, Error> {
    let mut user = user_of_image(Some(text), files)?;
    if text.contains(':') {
        user.additional_gids = vec![user.gid];
    }
    Ok(user)
}

/// Works out the same of an image's own text, root's when it has none, whose group leaves the user in the groups that name it
/// (containerd `oci/spec_opts.go`, WithImageConfig).
///
/// # Errors
/// As [`resolve_user`].
pub(super) fn user_of_image(text: Option<&str>, files: &UserFiles) -> Result<User, Error> {
    let text = text.unwrap_or("0");
    let mut parts = text.split(':');
    let (who, group) = (parts.next().unwrap_or_default(), parts.next());
    if who.is_empty() || group == Some("") || parts.next().is_some() {
        return Err(refuse("user", text, "it is not USER or USER:GROUP"));
    }
    let (entry, uid) = match id(who, text)? {
        Some(uid) => (files.users().find(|user| user.uid == uid), uid),
        None => {
            let entry = files.users().find(|user| user.name == who);
            let uid = entry.as_ref().ok_or_else(|| files.missing(text, "/etc/passwd"))?.uid;
            (entry, uid)
        }
    };
    let gid = match group {
        // Whose group nobody could look for would get root's.
        None if uid != 0 && matches!(files, UserFiles::Unreadable(_)) => return Err(files.missing(text, "/etc/passwd")),
        None => entry.as_ref().map_or(0, |user| user.gid),
        Some(group) => match id(group, text)? {
            Some(gid) => gid,
            None => {
                files.groups().find(|entry| entry.name == group).ok_or_else(|| files.missing(text, "/etc/group"))?.gid
            }
        },
    };
    let mut additional_gids: Vec<u32> = match &entry {
        None => Vec::new(),
        Some(user) => files
            .groups()
            .filter(|group| group.members.split(',').any(|member| member == user.name))
            .map(|group| group.gid)
            .collect(),
    };
    if !additional_gids.contains(&gid) {
        additional_gids.insert(0, gid);
    }
    Ok(User { uid, gid, umask: None, additional_gids })
}

/// Reads an id; nothing when it is a name.
fn id(part: &str, text: &str) -> Result<Option<u32>, Error> {
    if !part.bytes().all(|b| b.is_ascii_digit()) && !part.starts_with('-') {
        return Ok(None);
    }
    match part.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(refuse("user", text, format!("an id is a number from 0 to {MAX_ID}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> UserFiles {
        UserFiles::Read {
            passwd: "# users\nroot:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home:/bin/sh\nbroken:x:no\n".into(),
            group: "root:x:0:\nadm:x:4:root,web\nweb:x:1001:\nextra:x:1002:web\n".into(),
        }
    }

    fn ids(text: &str) -> (u32, u32, Vec<u32>) {
        numbers(resolve_user(text, &files()))
    }

    fn numbers(user: Result<User, Error>) -> (u32, u32, Vec<u32>) {
        let user = user.unwrap();
        (user.uid, user.gid, user.additional_gids)
    }

    #[test]
    fn names_and_numbers_resolve_as_in_containerd() {
        assert_eq!(ids("web"), (1000, 1001, vec![1001, 4, 1002]));
        assert_eq!(ids("1000"), (1000, 1001, vec![1001, 4, 1002]));
        assert_eq!(ids("web:adm"), (1000, 4, vec![4]));
        assert_eq!(ids("1000:4"), (1000, 4, vec![4]));
        assert_eq!(numbers(user_of_image(Some("web:adm"), &files())), (1000, 4, vec![4, 1002]));
        assert_eq!(ids("77"), (77, 0, vec![0]));
        assert_eq!(ids("77:88"), (77, 88, vec![88]));
        assert_eq!(numbers(user_of_image(None, &files())), (0, 0, vec![0, 4]));
    }

    #[test]
    fn an_id_that_would_wrap_is_refused() {
        for text in ["4294967296", "2147483648", "-1", "0:4294967295", "18446744073709551616"] {
            assert!(resolve_user(text, &files()).is_err(), "{text}");
        }
        assert_eq!(ids("2147483647").0, 2_147_483_647);
    }

    #[test]
    fn an_unknown_name_names_the_file_or_the_reason() {
        let error = resolve_user("nobody", &files()).unwrap_err();
        assert_eq!(error.to_string(), "user 'nobody' cannot be used: it is not in the image's /etc/passwd");
        let error = resolve_user("web:nogroup", &files()).unwrap_err();
        assert!(error.to_string().ends_with("/etc/group"), "{error}");
        let error = resolve_user("web", &UserFiles::Unreadable("a remote node".into())).unwrap_err();
        assert!(error.to_string().contains("a remote node"), "{error}");
        for text in ["", ":", "a:", ":b", "a:b:c"] {
            assert!(resolve_user(text, &files()).is_err(), "{text}");
        }
    }

    #[test]
    fn without_files_numbers_still_work() {
        let user = resolve_user("5:6", &UserFiles::Unreadable("x".into())).unwrap();
        assert_eq!((user.uid, user.gid), (5, 6));
        let error = user_of_image(Some("5"), &UserFiles::Unreadable("x".into())).unwrap_err();
        assert!(error.to_string().ends_with("give UID:GID"), "{error}");
        assert_eq!(numbers(user_of_image(None, &UserFiles::Unreadable("x".into()))), (0, 0, vec![0]));
    }
}
