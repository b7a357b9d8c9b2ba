"""Coffer through PyMySQL: types, parameters, errors, several statements, dictionaries."""
import datetime
import decimal
import sys

import pymysql
from pymysql.constants import CLIENT

host, port, database = sys.argv[1], int(sys.argv[2]), sys.argv[3]
conn = pymysql.connect(host=host, port=port, user="root", password="", database=database, charset="utf8mb4",
                       client_flag=CLIENT.MULTI_STATEMENTS, autocommit=True)
with conn.cursor() as cursor:
    cursor.execute("SELECT k, v, n, day, at FROM items ORDER BY k")
    rows = cursor.fetchall()
    assert rows[0] == (1, "één", decimal.Decimal("1.50"), datetime.date(2024, 1, 2),
                       datetime.datetime(2024, 1, 2, 3, 4, 5)), rows
    assert rows[2][1:] == (None, None, None, None), rows
    cursor.execute("INSERT INTO items (k, v) VALUES (%s, %s)", (10, "it's \\ \"quoted\""))
    assert cursor.rowcount == 1, cursor.rowcount
    cursor.execute("SELECT v FROM items WHERE k = %s", (10,))
    assert cursor.fetchone() == ("it's \\ \"quoted\"",)
    cursor.executemany("INSERT INTO items (k, v) VALUES (%s, %s)", [(11, "a"), (12, "b")])
    cursor.execute("SELECT 1; SELECT 2, 3")
    assert cursor.fetchall() == ((1,),)
    assert cursor.nextset() and cursor.fetchall() == ((2, 3),)
    try:
        cursor.execute("SELECT * FROM nothing")
        raise SystemExit("an unknown table was accepted")
    except pymysql.err.MySQLError as error:
        assert error.args[0] in (1051, 1146), error.args
conn.ping()
conn.select_db(database)
with conn.cursor(pymysql.cursors.DictCursor) as cursor:
    cursor.execute("SHOW BACKENDS")
    assert cursor.fetchone()["Alive"] == "true"
conn.close()
try:
    pymysql.connect(host=host, port=port, user="root", password="wrong")
    raise SystemExit("a wrong password was accepted")
except pymysql.err.OperationalError as error:
    assert error.args[0] == 1045, error.args
print("OK")
