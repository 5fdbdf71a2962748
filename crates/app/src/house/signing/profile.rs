//! The file in which AWS' tools keep keys: `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bucket::aws::Keys;

/// The keys of a profile.
pub(super) fn read(name: &str) -> Result<Keys> {
    let path = match std::env::var_os("AWS_SHARED_CREDENTIALS_FILE") {
        Some(path) => PathBuf::from(path),
        None => {
            let home = std::env::var_os("HOME").context(
                "sigv4.profile: neither AWS_SHARED_CREDENTIALS_FILE nor HOME says where credentials are",
            )?;
            PathBuf::from(home).join(".aws/credentials")
        }
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("sigv4.profile: {}", path.display()))?;
    find(&text, name).with_context(|| format!("sigv4.profile: {}", path.display()))
}

/// The keys of a profile in the text of such a file.
fn find(text: &str, name: &str) -> Result<Keys> {
    let (mut inside, mut found) = (false, false);
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = section.trim() == name;
            found |= inside;
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|v| !v.is_empty());
            match key.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Keys { id, secret, token }),
        _ if found => bail!(
            "profile {name:?} has no aws_access_key_id and aws_secret_access_key, which is all that is read of it"
        ),
        _ => bail!("there is no profile {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "# kept by a tool\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n\n[ other ]\naws_access_key_id=B\naws_secret_access_key = T==\naws_session_token = U\n[sso]\nsso_session = x\n";
        let keys = find(text, "other").unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str()), ("B", "T=="));
        assert_eq!(keys.token.as_deref(), Some("U"));
        assert_eq!(find(text, "default").unwrap().token, None);
        for (name, says) in [("sso", "has no aws_access_key_id"), ("none", "no profile")] {
            let Err(error) = find(text, name) else {
                panic!("{name} has keys");
            };
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
