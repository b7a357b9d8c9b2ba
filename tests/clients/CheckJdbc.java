import java.math.BigDecimal;
import java.sql.*;

/** Coffer through MariaDB Connector/J: text and server-side prepared statements, errors. */
public class CheckJdbc {
    public static void main(String[] args) throws Exception {
        String base = "jdbc:mariadb://" + args[0] + ":" + args[1] + "/" + args[2] + "?user=root&password=";
        for (String options : new String[] {"", "&useServerPrepStmts=true", "&allowMultiQueries=true"}) {
            try (Connection conn = DriverManager.getConnection(base + options)) {
                check(conn, args[2]);
            }
        }
        System.out.println("OK");
    }

    static void check(Connection conn, String database) throws Exception {
        must(conn.isValid(5), "isValid");
        try (Statement statement = conn.createStatement();
                ResultSet rows = statement.executeQuery("SELECT k, v, n, day, at FROM items ORDER BY k LIMIT 3")) {
            must(rows.next(), "a row");
            must(rows.getInt("k") == 1 && rows.getString("v").equals("\u00e9\u00e9n"), rows.getString("v"));
            must(rows.getBigDecimal("n").equals(new BigDecimal("1.50")), "n");
            must(rows.getDate("day").toString().equals("2024-01-02"), rows.getString("day"));
            must(rows.getTimestamp("at").toString().startsWith("2024-01-02 03:04:05"), rows.getString("at"));
            must(rows.next() && rows.next() && rows.getString("v") == null && rows.wasNull(), "null");
        }
        try (PreparedStatement statement = conn.prepareStatement("SELECT v, n FROM items WHERE k = ? AND v = ?")) {
            for (int round = 0; round < 2; round++) {
                statement.setInt(1, 2);
                statement.setString(2, "two");
                try (ResultSet rows = statement.executeQuery()) {
                    must(rows.next() && rows.getString(1).equals("two"), "prepared");
                    must(!rows.next(), "one row only");
                }
            }
        }
        try (PreparedStatement statement = conn.prepareStatement("INSERT INTO items (k, v, n) VALUES (?, ?, ?)")) {
            statement.setLong(1, 40);
            statement.setString(2, "it's");
            statement.setBigDecimal(3, new BigDecimal("7.25"));
            must(statement.executeUpdate() == 1, "one row inserted");
        }
        conn.setAutoCommit(false);
        conn.commit();
        conn.setAutoCommit(true);
        try (Statement statement = conn.createStatement()) {
            statement.executeQuery("SELECT * FROM nothing");
            throw new IllegalStateException("an unknown table was accepted");
        } catch (SQLException error) {
            must(error.getSQLState().equals("42S02"), error.toString());
        }
    }

    static void must(boolean good, String what) {
        if (!good) {
            throw new IllegalStateException(what);
        }
    }
}
