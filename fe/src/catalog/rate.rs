//! How fast an operator lets bytes pass.

use serde::{Deserialize, Serialize};

/// Bytes per second, all processes together; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// Into the storage.
    #[serde(default)]
    pub upload: u64,
    /// Out of the storage.
    #[serde(default)]
    pub download: u64,
}

/// A change of [`RateLimits`]; what it does not name stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateChange {
    /// Into the storage.
    #[serde(default)]
    pub upload: Option<u64>,
    /// Out of the storage.
    #[serde(default)]
    pub download: Option<u64>,
}

impl RateChange {
    /// Whether it names nothing.
    pub fn is_empty(self) -> bool {
        self == RateChange::default()
    }

    /// What holds after it.
    pub fn of(self, before: RateLimits) -> RateLimits {
        RateLimits { upload: self.upload.unwrap_or(before.upload), download: self.download.unwrap_or(before.download) }
    }
}

impl RateLimits {
    /// The even share of one of `carriers` processes; what is limited stays limited.
    pub fn share(self, carriers: u64) -> RateLimits {
        let share = |limit: u64| limit.div_ceil(carriers.max(1));
        RateLimits { upload: share(self.upload), download: share(self.download) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_shares_never_become_unlimited() {
        let before = RateLimits { upload: 10, download: 20 };
        let change = RateChange { upload: Some(0), download: None };
        assert!(!change.is_empty() && RateChange::default().is_empty());
        assert_eq!(change.of(before), RateLimits { upload: 0, download: 20 });
        assert_eq!(before.share(3), RateLimits { upload: 4, download: 7 });
        assert_eq!(RateLimits { upload: 1, download: 0 }.share(9), RateLimits { upload: 1, download: 0 });
        assert_eq!(before.share(0), before);
    }
}
