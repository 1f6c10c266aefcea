//! Does a store honour "create only if absent"? Some answer 200 and overwrite.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tracing::warn;

/// What the probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honours {
    Yes,
    /// Two archivers would overwrite each other's batches.
    No,
}

/// Creates an object twice; the second time must be refused.
///
/// # Errors
/// If the store does not answer as a working one does: nothing is known then.
pub(super) async fn put_if_absent(store: &dyn ObjectStore) -> Result<Honours, Error> {
    let key = Path::from(format!("_probe/{:032x}", rand::random::<u128>()));
    let create = || {
        let payload =
            PutPayload::from_static(b"May be deleted: left by a start of the archiver.\n");
        store.put_opts(&key, payload, PutMode::Create.into())
    };
    create().await?;
    let second = create().await;
    if let Err(error) = store.delete(&key).await {
        warn!(%key, %error, "the probe object {key} could not be deleted; it does no harm");
    }
    match second {
        Ok(_) => Ok(Honours::No),
        Err(Error::AlreadyExists { .. }) => Ok(Honours::Yes),
        Err(error) => Err(error),
    }
}
