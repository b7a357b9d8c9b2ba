//! The privileges.

use serde::{Deserialize, Serialize};

/// What may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Add and remove machines of the cluster. Nothing else implies it.
    Node,
    /// Everything but [`Privilege::Node`]. Backups, restores and repositories need it.
    Admin,
    /// Pass on what one holds.
    Grant,
    /// Read rows.
    Select,
    /// Load and insert rows, truncate tables.
    Load,
    /// Change properties of tables.
    Alter,
    /// Create databases and tables.
    Create,
    /// Drop databases and tables.
    Drop,
    /// Use a resource; elsewhere it lets nobody do anything.
    Usage,
}

impl Privilege {
    /// All of them, in the order SHOW GRANTS prints.
    pub const ALL: [Privilege; 9] = [
        Privilege::Node,
        Privilege::Admin,
        Privilege::Grant,
        Privilege::Select,
        Privilege::Load,
        Privilege::Alter,
        Privilege::Create,
        Privilege::Drop,
        Privilege::Usage,
    ];

    /// What GRANT ALL grants: those that work on data.
    pub const OF_ALL: [Privilege; 5] =
        [Privilege::Select, Privilege::Load, Privilege::Alter, Privilege::Create, Privilege::Drop];

    /// As errors name it.
    pub fn name(self) -> &'static str {
        match self {
            Privilege::Node => "NODE",
            Privilege::Admin => "ADMIN",
            Privilege::Grant => "GRANT",
            Privilege::Select => "SELECT",
            Privilege::Load => "LOAD",
            Privilege::Alter => "ALTER",
            Privilege::Create => "CREATE",
            Privilege::Drop => "DROP",
            Privilege::Usage => "USAGE",
        }
    }

    /// As SHOW GRANTS prints it.
    pub fn shown(self) -> String {
        let mut text = self.name().to_ascii_lowercase();
        text[..1].make_ascii_uppercase();
        text + "_priv"
    }

    /// From `SELECT`, `select_priv` and the like.
    pub fn from_word(word: &str) -> Option<Privilege> {
        let word = word.to_ascii_uppercase();
        let plain = word.strip_suffix("_PRIV").unwrap_or(&word);
        Privilege::ALL.into_iter().find(|privilege| privilege.name() == plain)
    }

    /// Whether it makes sense only on `*.*`.
    pub fn is_global_only(self) -> bool {
        matches!(self, Privilege::Node | Privilege::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for privilege in Privilege::ALL {
            assert_eq!(Privilege::from_word(privilege.name()), Some(privilege));
            assert_eq!(Privilege::from_word(&privilege.shown()), Some(privilege));
        }
        assert_eq!(Privilege::Select.shown(), "Select_priv");
        assert_eq!((Privilege::from_word("SHOW_VIEW_PRIV"), Privilege::from_word("_priv")), (None, None));
        assert!(Privilege::Node.is_global_only() && !Privilege::Grant.is_global_only());
    }
}
