"""Several frontends from PyMySQL, which takes one address: try one after the other. The connected one dies in between
(the caller kills it when it reads the port, then sends a line)."""

import sys
import time

import pymysql

ADDRESSES = [address.rsplit(":", 1) for address in sys.argv[1].split(",")]


def connect():
    last = None
    for host, port in ADDRESSES:
        try:
            return pymysql.connect(host=host, port=int(port), user="root", password="", connect_timeout=5)
        except pymysql.MySQLError as error:
            last = error
    raise last


def run(conn, statement):
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


conn = connect()
print("PORT", run(conn, "SHOW VARIABLES LIKE 'port'")[0][1], flush=True)
sys.stdin.readline()
for attempt in range(100):
    try:
        run(conn, "CREATE DATABASE IF NOT EXISTS by_python")
        print("PORT", run(conn, "SHOW VARIABLES LIKE 'port'")[0][1])
        break
    except pymysql.MySQLError:
        time.sleep(0.1)
        try:
            conn = connect()
        except pymysql.MySQLError:
            pass
else:
    raise SystemExit("no frontend took the statement")
print("OK")
