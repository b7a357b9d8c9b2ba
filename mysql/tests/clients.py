"""Python clients against the toy server; called by clients.rs with the two ports."""

import datetime
import decimal
import importlib
import sys

PORTS = [int(port) for port in sys.argv[1:]]
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 58, 120000)
SPAN = -datetime.timedelta(hours=25, minutes=1, seconds=2, microseconds=500000)
BIG = 20 * 1024 * 1024


def have(module):
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(f"SKIPPED: {error}")
        return False
    return True


def check(found, expected):
    assert found == expected, f"{found!r} instead of {expected!r}"


def check_types(row, span=SPAN):
    check(row[0:5], (-128, -32768, -(2**31), -(2**63), 2**64 - 1))
    check(tuple(row[5:7]), (1.5, -0.1))
    check(row[7], decimal.Decimal("12345678901234567890.25"))
    check(row[8:11], (datetime.date(2024, 2, 29), MOMENT, span))
    check(row[11], "grüße 🦀")
    check(bytes(row[13]), b"\0\xff\1")


def pymysql_client(port):
    import pymysql
    from pymysql.constants import CLIENT

    def connect(user, password="", **more):
        return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, **more)

    for user in ["both", "native", "sha2"]:
        with connect(user, "sesam", database="db") as connection, connection.cursor() as cursor:
            cursor.execute("select user")
            check(cursor.fetchall(), ((f"{user}@db",),))
        try:
            connect(user, "wrong")
            raise AssertionError("let in")
        except pymysql.err.OperationalError as error:
            check(error.args[0], 1045)
    with connect("root", client_flag=CLIENT.MULTI_STATEMENTS) as connection, connection.cursor() as cursor:
        connection.ping()
        cursor.execute("select types")
        check_types(cursor.fetchone())
        check(set(cursor.fetchone()), {None})
        check(cursor.execute("set x"), 1)
        cursor.execute("select 1; set x; select 2")
        texts = [cursor.fetchall()]
        while cursor.nextset():
            texts.append(tuple(cursor.fetchall()))
        check(texts, [(("select 1",),), (), (("select 2",),)])
        cursor.execute(f"select big {BIG}")
        check(len(cursor.fetchone()[0]), BIG)
        cursor.execute("select %s", ("y" * BIG,))
        check(len(cursor.fetchone()[0]), BIG + len("select ''"))
        cursor.execute("select rows 100000")
        check(sum(row[0] for row in cursor.fetchall()), 99999 * 50000)
        connection.select_db("other")
        cursor.execute("select user")
        check(cursor.fetchone(), ("root@other",))
        for sql, code in [("boom", 1105), (" -- nothing", 1065)]:
            try:
                cursor.execute(sql)
                raise AssertionError("no error")
            except pymysql.err.Error as error:
                check(error.args[0], code)
    with connect("root") as connection, connection.cursor() as cursor:
        try:
            cursor.execute("select 1; select 2")
            raise AssertionError("no error")
        except pymysql.err.ProgrammingError as error:
            check(error.args[0], 1064)


def connector_client(port, pure):
    import mysql.connector

    def connect(user, password="", **more):
        return mysql.connector.connect(
            host="127.0.0.1", port=port, user=user, password=password, use_pure=pure, ssl_disabled=True, **more
        )

    for user in ["both", "sha2"] + (["native"] if pure else []):
        connection = connect(user, "sesam", database="db")
        cursor = connection.cursor()
        cursor.execute("select user")
        check(cursor.fetchall(), [(f"{user}@db",)])
        connection.close()
        try:
            connect(user, "wrong")
            raise AssertionError("let in")
        except mysql.connector.Error as error:
            check(error.errno, 1045)
    connection = connect("root")
    connection.ping()
    cursor = connection.cursor(prepared=True)
    for value in ["it's \\ ?", None, 7, -7, 1.5, MOMENT, datetime.date(2024, 2, 29), decimal.Decimal("1.50")]:
        cursor.execute("select ?", (value,))
        cursor.fetchall()
    cursor.execute("select ?, ?", ("it's", -5))
    check(cursor.fetchall(), [("select 'it''s',  -5",)])
    cursor.close()
    cursor = connection.cursor(prepared=True)
    cursor.execute("select types")
    row, nulls = cursor.fetchall()
    # The pure connector forgets the sign of days and minutes of binary times.
    check_types(tuple(row), row[10] if pure else SPAN)
    check(set(nulls), {None})
    cursor.close()
    connection.cmd_reset_connection()
    cursor = connection.cursor()
    cursor.execute(f"select big {BIG}")
    check(len(cursor.fetchall()[0][0]), BIG)
    connection.cmd_change_user(username="both", password="sesam", database="third")
    cursor = connection.cursor()
    cursor.execute("select user")
    check(cursor.fetchall(), [("both@third",)])
    connection.close()


for port in PORTS:
    if have("pymysql"):
        pymysql_client(port)
        print(f"PyMySQL ok on {port}")
    if have("mysql"):
        for pure in [True, False] if have("_mysql_connector") else [True]:
            connector_client(port, pure)
            print(f"connector ok on {port}, pure: {pure}")
