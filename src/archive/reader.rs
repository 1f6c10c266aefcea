//! Reads the archive: one game by its id, or the latest ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;

use super::decode::{self, Columns};
use super::objects::{self, ObjectError};
use crate::domain::{Kind, TableId, Timestamp};
use crate::protocol::archive::{ArchivedTable, Date, ObjectKey};

/// Requests under way at once for one look-up.
const REQUESTS: usize = 16;

/// Objects whose table ids are remembered: at a hundred ids each some 16 MB.
const REMEMBERED: usize = 10_000;

/// The clocks of whoever makes ids and of whoever stores markers may differ by this much.
const CLOCKS_DIFFER_MS: u64 = 3_600_000;

/// A view of the archive in one store.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn ObjectStore>,
    /// What objects hold. Objects never change, so this cannot be out of date.
    ids: Mutex<HashMap<ObjectKey, Arc<[TableId]>>>,
}

/// Which games to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Only those archived under this date.
    pub date: Option<Date>,
    /// Only those of these rules.
    pub kind: Option<Kind>,
}

impl Reader {
    /// Reads from a store that an archiver writes to.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, ids: Mutex::default() }
    }

    /// A game with all its events; nothing if it is not in the archive (yet).
    ///
    /// # Errors
    /// If the store does not answer, or an object that may hold the game is damaged.
    pub async fn get(&self, table: TableId) -> Result<Option<ArchivedTable>, ObjectError> {
        let Some((key, index)) = self.place(table).await? else {
            return Ok(None);
        };
        self.row(key, index).await
    }

    /// A game with all its events from the object that is said to hold it; nothing if that does not.
    ///
    /// # Errors
    /// If the store does not answer, or the object is damaged.
    pub async fn get_from(
        &self,
        key: &ObjectKey,
        table: TableId,
    ) -> Result<Option<ArchivedTable>, ObjectError> {
        match self.find(table, vec![*key]).await {
            Ok(Some((key, index))) => self.row(key, index).await,
            Ok(None) => Ok(None),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn row(
        &self,
        key: ObjectKey,
        index: usize,
    ) -> Result<Option<ArchivedTable>, ObjectError> {
        let object = objects::whole(&*self.store, &key).await?;
        let damaged = |source| ObjectError::Damaged { key, source };
        decode::row(object, index).map_err(damaged)
    }

    /// The object that holds a game.
    pub async fn locate(&self, table: TableId) -> Result<Option<ObjectKey>, ObjectError> {
        let place = self.place(table).await?;
        Ok(place.map(|(key, _)| key))
    }

    async fn place(&self, table: TableId) -> Result<Option<(ObjectKey, usize)>, ObjectError> {
        let opened = table.opened_at().as_millis();
        let opened = Date::of(Timestamp::from_millis(opened.saturating_sub(CLOCKS_DIFFER_MS)));
        let mut dates = objects::dates(&*self.store).await?;
        dates.retain(|date| *date >= opened);
        // A table ends soon after it was opened: the days next to that first.
        for date in dates.into_iter().rev() {
            let keys = objects::keys(&*self.store, date).await?;
            let found = self.find(table, keys).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The games archived last, without their events, newest first.
    ///
    /// # Errors
    /// If the store does not answer, or an object is damaged.
    pub async fn ls(
        &self,
        filter: &ListFilter,
        limit: usize,
    ) -> Result<Vec<ArchivedTable>, ObjectError> {
        let mut dates = objects::dates(&*self.store).await?;
        dates.retain(|date| filter.date.is_none_or(|only| only == *date));
        let mut found = Vec::new();
        for date in dates {
            let keys = objects::keys(&*self.store, date).await?;
            let mut rows: Vec<ArchivedTable> = stream::iter(keys)
                .map(|key| self.summaries(key))
                .buffer_unordered(REQUESTS)
                .try_concat()
                .await?;
            rows.retain(|row| filter.kind.as_ref().is_none_or(|only| *only == row.kind));
            rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.ended_at, row.table_id)));
            found.append(&mut rows);
            if found.len() >= limit {
                found.truncate(limit);
                break;
            }
        }
        Ok(found)
    }

    async fn summaries(&self, key: ObjectKey) -> Result<Vec<ArchivedTable>, ObjectError> {
        let object = objects::whole(&*self.store, &key).await?;
        let damaged = |source| ObjectError::Damaged { key, source };
        decode::rows(object, Columns::Summary).map_err(damaged)
    }

    /// The object that holds a table, and the place of its row.
    async fn find(
        &self,
        table: TableId,
        keys: Vec<ObjectKey>,
    ) -> Result<Option<(ObjectKey, usize)>, ObjectError> {
        let place = |ids: &[TableId]| ids.iter().position(|id| *id == table);
        let mut unknown = Vec::new();
        for key in keys {
            match self.remembered(&key) {
                None => unknown.push(key),
                Some(ids) => {
                    if let Some(index) = place(&ids) {
                        return Ok(Some((key, index)));
                    }
                }
            }
        }
        let mut footers = stream::iter(unknown)
            .map(async |key| Ok::<_, ObjectError>((key, self.ids_of(key).await?)))
            .buffer_unordered(REQUESTS);
        while let Some((key, ids)) = footers.try_next().await? {
            if let Some(index) = place(&ids) {
                return Ok(Some((key, index)));
            }
        }
        Ok(None)
    }

    fn remembered(&self, key: &ObjectKey) -> Option<Arc<[TableId]>> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(key).map(Arc::clone)
    }

    async fn ids_of(&self, key: ObjectKey) -> Result<Arc<[TableId]>, ObjectError> {
        let footer = objects::footer(&*self.store, &key).await?;
        let listed: Arc<[TableId]> = footer.tables.iter().map(|table| table.id).collect();
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.len() >= REMEMBERED {
            // Rare, and the days that are asked for come back at once.
            ids.clear();
        }
        ids.insert(key, Arc::clone(&listed));
        Ok(listed)
    }
}
