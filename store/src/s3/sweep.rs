//! Uploads that nobody will complete: their parts cost money and no listing of objects shows them.
//!
//! A crash in the middle of a put leaves one. The first put in parts that a store ends well looks for those that began long
//! before, below the location, and aborts them; whatever goes wrong there is no matter of the put.

use super::{ANSWER_WITHIN, Inner, S3Store, answered};
use coffer_stdx::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// An upload that began so long ago has no process any more. A put of the largest object there is may take days.
const ABANDONED_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// Pages looked at in one sweep.
const MOST_PAGES: usize = 100;

impl Inner {
    /// Sweep in the background, once in the life of this store.
    pub(super) fn sweep_once(self: &Arc<Self>, key: &str) {
        let Some(folder) = self.own_folder(key) else { return };
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            match inner.sweep(&folder, ABANDONED_AFTER).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, folder, "aborted uploads that were left behind"),
                Err(error) => tracing::debug!(%error, "looking for uploads that were left behind"),
            }
        });
    }

    /// The location, or in a bucket that has no prefix the folder of the key: what else is in the bucket is not ours.
    fn own_folder(&self, key: &str) -> Option<String> {
        match self.settings.prefix.as_str() {
            "" => key.split_once('/').map(|(folder, _)| format!("{folder}/")),
            prefix => Some(format!("{prefix}/")),
        }
    }

    /// Abort uploads below `folder` that began more than `older` ago; how many those were.
    pub(super) async fn sweep(&self, folder: &str, older: Duration) -> Result<u64> {
        let before = SystemTime::now().checked_sub(older).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut aborted, mut at) = (0, (None, None));
        for _ in 0..MOST_PAGES {
            let page = S3Store::RETRY
                .run(|| async {
                    let list = self.client().await.list_multipart_uploads().bucket(&self.settings.bucket);
                    let list = list.prefix(folder).set_key_marker(at.0.clone()).set_upload_id_marker(at.1.clone());
                    Ok(answered(&self.request("list uploads below", folder), ANSWER_WITHIN, list.send()).await?)
                })
                .await?;
            for upload in page.uploads() {
                let began = upload.initiated().and_then(|at| SystemTime::try_from(*at).ok());
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if began.is_some_and(|began| began <= before) {
                    self.abort(key, id).await?;
                    aborted += 1;
                }
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            at = (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
        }
        Ok(aborted)
    }
}
