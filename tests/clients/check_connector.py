"""Coffer through mysql-connector-python (pure Python): text and prepared statements, both authentication methods."""
import datetime
import decimal
import sys

import mysql.connector

host, port, database = sys.argv[1], int(sys.argv[2]), sys.argv[3]
login = dict(host=host, port=port, user="root", password="", database=database, use_pure=True, ssl_disabled=True)
for plugin in (None, "mysql_native_password", "caching_sha2_password"):
    conn = mysql.connector.connect(**login, **({"auth_plugin": plugin} if plugin else {}))
    cursor = conn.cursor()
    cursor.execute("SELECT count(*) FROM items")
    assert cursor.fetchone()[0] >= 3
    cursor.close()
    conn.close()
conn = mysql.connector.connect(**login)
cursor = conn.cursor(prepared=True)
for key, text in ((1, "één"), (2, "two")):
    cursor.execute("SELECT k, v, n, day, at FROM items WHERE k = %s", (key,))
    row = cursor.fetchone()
    assert row[:2] == (key, text), row
    cursor.fetchall()
    if key == 1:
        assert row[2:] == (decimal.Decimal("1.50"), datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 3, 4, 5)), row
cursor.execute("INSERT INTO items (k, v, day) VALUES (%s, %s, %s)", (20, None, datetime.date(2025, 5, 6)))
cursor.execute("SELECT v, day FROM items WHERE k = %s", (20,))
assert cursor.fetchall() == [(None, datetime.date(2025, 5, 6))]
cursor.close()
try:
    conn.cmd_query("SELECT * FROM nothing")
    raise SystemExit("an unknown table was accepted")
except mysql.connector.Error as error:
    assert error.errno in (1051, 1146) and error.sqlstate == "42S02", error
assert conn.is_connected()
conn.close()
print("OK")
