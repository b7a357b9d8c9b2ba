import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.*;

/**
 * One address list for several frontends, as MariaDB Connector/J takes it: the first address is dead from the start, and the
 * frontend that was connected dies in between (the caller kills it when it reads the port, then sends a line).
 */
public class CheckFailover {
    public static void main(String[] args) throws Exception {
        String url = "jdbc:mariadb:sequential://" + args[0] + "/?user=root&password=&connectTimeout=5000";
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        Connection conn = DriverManager.getConnection(url);
        System.out.println("PORT " + port(conn));
        System.out.flush();
        input.readLine();
        SQLException last = null;
        for (int attempt = 0; attempt < 100; attempt++) {
            try {
                if (conn == null || conn.isClosed()) {
                    conn = DriverManager.getConnection(url);
                }
                try (Statement statement = conn.createStatement()) {
                    statement.execute("CREATE DATABASE IF NOT EXISTS by_jdbc");
                }
                System.out.println("PORT " + port(conn));
                conn.close();
                System.out.println("OK");
                return;
            } catch (SQLException error) {
                last = error;
                Thread.sleep(100);
            }
        }
        throw last;
    }

    static int port(Connection conn) throws SQLException {
        try (Statement statement = conn.createStatement();
                ResultSet rows = statement.executeQuery("SHOW VARIABLES LIKE 'port'")) {
            rows.next();
            return rows.getInt("Value");
        }
    }
}
