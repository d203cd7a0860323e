//! Memory for keys: whole pages that are locked against swapping, left out of core dumps and not passed on to
//! forked children, cut into slots of 32 bytes that are wiped when given back. Every key that outlives a call
//! lives here; the cipher's own key schedules live for one operation and are wiped by aws-lc.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kluis_core::id::KeyId;
use kluis_core::rng::Rng;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use zeroize::Zeroize;

use crate::derive;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
const PAGE_BYTES: usize = 4096;
/// One bit of a `u128` each.
const SLOTS: usize = PAGE_BYTES / KEY_BYTES;

static POOL: Mutex<Vec<Page>> = Mutex::new(Vec::new());

/// 256 secret bits in locked memory, wiped on drop.
pub(crate) struct Key {
    bytes: NonNull<[u8; KEY_BYTES]>,
    page: usize,
    slot: usize,
}

#[expect(unsafe_code, reason = "a slot belongs to one key, pages are never unmapped")]
// SAFETY: the slot is exclusively this key's until drop, and written only before the key is handed out.
unsafe impl Send for Key {}
#[expect(unsafe_code, reason = "a finished key is only read")]
// SAFETY: as above; `expose` hands out shared references only.
unsafe impl Sync for Key {}

impl Key {
    /// A key written in place by `write`, so that no copy is left elsewhere.
    pub(crate) fn write<E>(write: impl FnOnce(&mut [u8; KEY_BYTES]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self::take();
        write(key.slot())?;
        Ok(key)
    }

    /// A random key.
    pub(crate) fn generate(rng: &dyn Rng) -> Self {
        let mut key = Self::take();
        rng.fill(key.slot());
        key
    }

    /// The bytes. Leaves this crate only sealed.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        #[expect(unsafe_code, reason = "the slot is in a mapped page and nobody writes to it")]
        // SAFETY: `bytes` points to this key's own slot in a page that stays mapped.
        unsafe {
            self.bytes.as_ref()
        }
    }

    /// The key's public name, derived from it: a wrapped key that opens to another one is noticed.
    pub(crate) fn id(&self) -> KeyId {
        derive::key_id(self)
    }

    fn slot(&mut self) -> &mut [u8; KEY_BYTES] {
        #[expect(unsafe_code, reason = "exclusive access to this key's slot")]
        // SAFETY: `bytes` points to this key's own slot in a page that stays mapped; `self` is exclusive.
        unsafe {
            self.bytes.as_mut()
        }
    }

    fn take() -> Self {
        let mut pages = pool();
        let page = pages.iter().position(|p| p.used != u128::MAX).unwrap_or_else(|| {
            pages.push(Page::map());
            pages.len() - 1
        });
        let slot = pages[page].used.trailing_ones() as usize;
        pages[page].used |= 1 << slot;
        #[expect(unsafe_code, reason = "the offset stays within the page")]
        // SAFETY: `slot` is below SLOTS, so the 32 bytes at the offset are within the mapped page.
        let bytes = unsafe { pages[page].start.add(slot * KEY_BYTES) }.cast();
        Self { bytes, page, slot }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.slot().zeroize();
        pool()[self.page].used &= !(1 << self.slot);
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

/// How the pages of this process are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protection {
    pub(crate) pages: usize,
    pub(crate) unlocked: usize,
    pub(crate) dumpable: usize,
}

/// Looks at every key page mapped so far.
pub(crate) fn protection() -> Protection {
    pool().iter().fold(Protection::default(), |all, page| Protection {
        pages: all.pages + 1,
        unlocked: all.unlocked + usize::from(!page.locked),
        dumpable: all.dumpable + usize::from(page.dumpable),
    })
}

struct Page {
    start: NonNull<u8>,
    used: u128,
    locked: bool,
    dumpable: bool,
}

#[expect(unsafe_code, reason = "the pointer is only used under the pool's lock or through a slot's owner")]
// SAFETY: a page is plain memory without an owner thread.
unsafe impl Send for Page {}

impl Page {
    /// Maps a page. What the system refuses of its protection is remembered, not fatal: see `hardening`.
    fn map() -> Self {
        #[expect(unsafe_code, reason = "a fresh anonymous mapping, and advice about nothing but itself")]
        // SAFETY: no address is asked for, so no existing mapping is touched; the calls after it concern
        // exactly the mapped range.
        unsafe {
            let address = rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .expect("the system has one more page of memory");
            let locked = rustix::mm::mlock(address, PAGE_BYTES).is_ok();
            let dumpable = rustix::mm::madvise(address, PAGE_BYTES, Advice::LinuxDontDump).is_err();
            // A forked child has no business with keys; where this is refused it would get a copy.
            rustix::mm::madvise(address, PAGE_BYTES, Advice::LinuxDontFork).ok();
            let start = NonNull::new(address.cast()).expect("a mapping is not at address zero");
            Self { start, used: 0, locked, dumpable }
        }
    }
}

fn pool() -> MutexGuard<'static, Vec<Page>> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

const _: () = assert!(SLOTS == u128::BITS as usize, "one bit for each slot of a page");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kluis_core::rng::CountingRng;

    use super::*;

    #[test]
    fn keys_do_not_share_memory_and_slots_are_used_again() {
        let rng = CountingRng::new(1);
        let keys: Vec<_> = (0..3 * SLOTS).map(|_| Key::generate(&rng)).collect();
        let slots: BTreeSet<_> = keys.iter().map(|k| (k.page, k.slot)).collect();
        assert_eq!(slots.len(), keys.len());
        let values: BTreeSet<_> = keys.iter().map(|k| *k.expose()).collect();
        assert_eq!(values.len(), keys.len());
        drop(keys);
        for _ in 0..100 * SLOTS {
            drop(Key::generate(&rng));
        }
        assert!(protection().pages < 50, "freed slots are used before new pages are mapped");
    }

    #[test]
    fn a_dropped_key_leaves_zeros() {
        for _ in 0..10 * SLOTS {
            let mut key = Key::take();
            assert_eq!(key.slot(), &[0; KEY_BYTES], "the slot's last user wiped it");
            key.slot().fill(7);
        }
    }

    /// What the kernel says of the page that holds a key: `lo` locked, `dd` left out of dumps, `dc` not copied by fork.
    #[test]
    fn the_kernel_confirms_that_key_pages_are_locked_and_left_out_of_dumps() {
        let key = Key::generate(&CountingRng::new(3));
        let address = key.bytes.as_ptr() as usize;
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut within = false;
        let flags = smaps.lines().find_map(|line| {
            if let Some((start, end)) = line.split(' ').next().and_then(|range| range.split_once('-')) {
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                within = (number(start)..number(end)).contains(&address);
            }
            line.strip_prefix("VmFlags:").filter(|_| within)
        });
        let flags: Vec<_> = flags.unwrap().split_whitespace().collect();
        assert!(flags.contains(&"dd") && flags.contains(&"dc"), "{flags:?}");
        assert_eq!(flags.contains(&"lo"), protection().unlocked == 0, "{flags:?}");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Key::generate(&CountingRng::new(2))), "Key(***)");
    }
}
