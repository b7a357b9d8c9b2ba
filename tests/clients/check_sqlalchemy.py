"""Coffer through SQLAlchemy: the pool, reflection, and expressions, over PyMySQL."""
import decimal
import sys

import sqlalchemy as sa

host, port, database = sys.argv[1], sys.argv[2], sys.argv[3]
engine = sa.create_engine(f"mysql+pymysql://root:@{host}:{port}/{database}", pool_pre_ping=True)
with engine.connect() as conn:
    assert conn.execute(sa.text("SELECT 1")).scalar() == 1
    rows = conn.execute(sa.text("SELECT k, n FROM items WHERE k = :k"), {"k": 1}).all()
    assert rows == [(1, decimal.Decimal("1.50"))], rows
inspector = sa.inspect(engine)
assert "items" in inspector.get_table_names(), inspector.get_table_names()
assert inspector.has_table("items") and not inspector.has_table("nothing")
items = sa.Table("items", sa.MetaData(), autoload_with=engine)
assert [column.name for column in items.columns] == ["k", "v", "n", "day", "at"], items.columns
with engine.begin() as conn:
    conn.execute(items.insert(), [{"k": 30, "v": "alchemy"}])
with engine.connect() as conn:
    found = conn.execute(sa.select(items.c.v).where(items.c.k == 30).order_by(items.c.k).limit(5)).all()
    assert found == [("alchemy",)], found
    total = conn.execute(sa.select(sa.func.count()).select_from(items)).scalar()
    assert total >= 4, total
engine.dispose()
print("OK")
