//! What may stand in a snapshot. Paths are relative, of plain parts, UTF-8; links lead to places inside the tree.

/// The path without a folder's final `/`, or why it is refused.
pub(super) fn check_path(path: &str) -> Result<&str, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.starts_with('/') {
        return Err("has an absolute path");
    }
    if path.contains('\0') {
        return Err("has a path with a NUL byte");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("has an empty part in its path"),
            "." | ".." => return Err("has `.` or `..` in its path"),
            _ => {}
        }
    }
    Ok(path)
}

/// Whether a link at `path` stays inside the tree.
///
/// `..` is allowed only in front: after a name it would climb out of whatever that name links to, which only the file
/// system knows. Since no entry lies below a link, the link's own folder is a real one, and climbing from it is counting.
pub(super) fn check_link(path: &str, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.contains('\0') {
        return Err("it has no proper target");
    }
    if target.starts_with('/') {
        return Err("its target is absolute");
    }
    let mut depth = path.split('/').count() - 1;
    let mut named = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if named => return Err("its target has `..` after a name"),
            ".." => depth = depth.checked_sub(1).ok_or("its target climbs above the tree")?,
            _ => named = true,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_are_paths() {
        for path in ["a", "a/b.py", "a/b/", ".hidden", "a/..b", "ä"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["", "/", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/.", "a\0b"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_link_climbs_no_further_than_the_root() {
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../x/y"), ("a", "./b"), ("a/b", "..")] {
            assert!(check_link(path, target).is_ok(), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", ".."),
            ("a", "../b"),
            ("a/b", "../../c"),
            ("a", "/etc/passwd"),
            ("a", ""),
            // Harmless to the eye: p/q/x -> d/../../.. looks like the root, but d may be a link to a higher folder.
            ("p/q/x", "d/../../.."),
        ] {
            assert!(check_link(path, target).is_err(), "{path} -> {target}");
        }
    }
}
