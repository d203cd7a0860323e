//! The accelerators of this machine.

use std::path::Path;

/// The devices that a run would see if nobody said otherwise, by the numbers that CUDA gives them.
pub(crate) fn found_devices() -> Vec<String> {
    found_in(Path::new("/dev"))
}

fn found_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut numbers: Vec<u32> = names.filter_map(|name| name.to_str()?.strip_prefix("nvidia")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_by_number_and_their_companions_are_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvme0"] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        assert_eq!(found_in(folder.path()), ["0", "2", "10"]);
        assert!(found_in(&folder.path().join("nothing")).is_empty());
    }
}
