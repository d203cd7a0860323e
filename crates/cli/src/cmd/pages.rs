//! Lists come in pages; commands show them whole. One fold over the pages for queries that are not plain ones.

use kluis_client::Error;
use kluis_core::api::Page;

/// Asks for page after page, at most `limit` items in all.
pub(super) async fn all<T, Answer>(
    limit: usize,
    mut fetch: impl FnMut(Option<String>) -> Answer,
) -> Result<Vec<T>, Error>
where
    Answer: Future<Output = Result<Page<T>, Error>>,
{
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let page = fetch(after).await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() || items.len() >= limit {
            items.truncate(limit);
            return Ok(items);
        }
    }
}
