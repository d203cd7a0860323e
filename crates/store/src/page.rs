//! Lists come in pages, by the key of the last item seen, so that a page costs the same wherever it starts.

/// Where a page starts and how long it may be. `K` is what the list is ordered by: a name's key, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After<K> {
    /// A previous page's [`Listed::next`]; `None` for the first page.
    pub after: Option<K>,
    /// At most this many items; at least 1 is taken.
    pub limit: u32,
}

impl<K> After<K> {
    /// The first page.
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// One page. A row that the store can not read is left out of lists and stands in [`Health`](crate::Health); asking
/// for it by name says what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T, K = String> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<K>,
}
