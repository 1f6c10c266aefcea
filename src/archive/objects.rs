//! The objects of the archive: listing them, reading a footer, reading a whole one.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::decode::{self, DecodeError, Tail};
use crate::protocol::archive::{Date, Footer, LIVE, ObjectKey};

/// Enough for the footer of a hundred tables in one request.
const FOOTER_BYTES: u64 = 64 * 1024;

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// No answer, or a refusal.
    #[error("the archive's store does not answer as it should")]
    Store(#[from] object_store::Error),
    /// The object is there, but not what its name promises.
    #[error("the object {key} is damaged or not the archive's")]
    Damaged {
        /// Which.
        key: ObjectKey,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl ObjectError {
    /// Whether there is no such object.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Store(object_store::Error::NotFound { .. }))
    }
}

pub fn path(key: &ObjectKey) -> Path {
    Path::from(key.to_string())
}

/// The days that have batches, newest first.
pub async fn dates(store: &dyn ObjectStore) -> Result<Vec<Date>, object_store::Error> {
    let listing = store.list_with_delimiter(Some(&Path::from(LIVE))).await?;
    let names = listing.common_prefixes.iter().filter_map(Path::filename);
    let mut dates: Vec<Date> =
        names.filter_map(|name| name.strip_prefix("date=")?.parse().ok()).collect();
    dates.sort_unstable_by(|a, b| b.cmp(a));
    Ok(dates)
}

/// The batches of a day, in no order.
pub async fn keys(
    store: &dyn ObjectStore,
    date: Date,
) -> Result<Vec<ObjectKey>, object_store::Error> {
    let folder = Path::from(format!("{LIVE}/date={date}"));
    let objects = store.list(Some(&folder));
    objects
        .try_filter_map(async |meta| Ok(ObjectKey::parse(meta.location.as_ref())))
        .try_collect()
        .await
}

/// What an object says of itself: one request, unless it holds very many tables.
pub async fn footer(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Footer, ObjectError> {
    let damaged = |source| ObjectError::Damaged { key: *key, source };
    let mut wanted = FOOTER_BYTES;
    loop {
        let options = GetOptions { range: Some(GetRange::Suffix(wanted)), ..GetOptions::default() };
        let result = store.get_opts(&path(key), options).await?;
        let size = result.meta.size;
        match decode::footer(&result.bytes().await?, size).map_err(damaged)? {
            Tail::Footer(footer) => return Ok(footer),
            // A damaged length must not make this ask for ever.
            Tail::Longer(more) if wanted < more && wanted < size => wanted = more.min(size),
            Tail::Longer(_) => {
                return Err(damaged(DecodeError::Column("footer")));
            }
        }
    }
}

/// A whole object.
pub async fn whole(store: &dyn ObjectStore, key: &ObjectKey) -> Result<Bytes, ObjectError> {
    Ok(store.get(&path(key)).await?.bytes().await?)
}
