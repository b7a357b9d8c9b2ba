//! SHOW of things there are none of here: tools ask for them and take an empty set for an answer.

use super::ast::Show;
use super::cursor::Cursor;
use crate::error::Result;

const INDEX: [&str; 13] = [
    "Table",
    "Non_unique",
    "Key_name",
    "Seq_in_index",
    "Column_name",
    "Collation",
    "Cardinality",
    "Sub_part",
    "Packed",
    "Null",
    "Index_type",
    "Comment",
    "Properties",
];
const TRIGGERS: [&str; 11] = [
    "Trigger",
    "Event",
    "Table",
    "Statement",
    "Timing",
    "Created",
    "sql_mode",
    "Definer",
    "character_set_client",
    "collation_connection",
    "Database Collation",
];
const EVENTS: [&str; 15] = [
    "Db",
    "Name",
    "Definer",
    "Time zone",
    "Type",
    "Execute at",
    "Interval value",
    "Interval field",
    "Starts",
    "Ends",
    "Status",
    "Originator",
    "character_set_client",
    "collation_connection",
    "Database Collation",
];
const ROUTINES: [&str; 11] = [
    "Db",
    "Name",
    "Type",
    "Definer",
    "Modified",
    "Created",
    "Security_type",
    "Comment",
    "character_set_client",
    "collation_connection",
    "Database Collation",
];
const OPEN_TABLES: [&str; 4] = ["Database", "Table", "In_use", "Name_locked"];
const PLUGINS: [&str; 5] = ["Name", "Status", "Type", "Library", "License"];
const PROFILES: [&str; 3] = ["Query_ID", "Duration", "Query"];

/// By the words that name the thing; what follows is not looked at.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Show>> {
    let kinds: [(&[&str], &[&str]); 11] = [
        (&["INDEX"], &INDEX),
        (&["INDEXES"], &INDEX),
        (&["KEYS"], &INDEX),
        (&["TRIGGERS"], &TRIGGERS),
        (&["FULL", "TRIGGERS"], &TRIGGERS),
        (&["EVENTS"], &EVENTS),
        (&["PROCEDURE", "STATUS"], &ROUTINES),
        (&["FUNCTION", "STATUS"], &ROUTINES),
        (&["OPEN", "TABLES"], &OPEN_TABLES),
        (&["PLUGINS"], &PLUGINS),
        (&["PROFILES"], &PROFILES),
    ];
    for (words, columns) in kinds {
        if cursor.eat_all(words) {
            cursor.skip_rest();
            return Ok(Some(Show::Empty { columns: columns.iter().map(|&column| column.to_owned()).collect() }));
        }
    }
    Ok(None)
}
