"""Puts scikit-learn's breast cancer data set into PostgreSQL, for train.py to find. The password comes from PGPASSWORD.

This is the part that a database's owner does once; it has nothing to do with runs.
"""

import argparse
import io
import os

import pg8000.native
from sklearn.datasets import load_breast_cancer

TABLE = "tumours"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default=os.environ.get("PGHOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PGPORT", "5432")))
    parser.add_argument("--user", default=os.environ.get("PGUSER", "postgres"))
    parser.add_argument("--database", default=os.environ.get("PGDATABASE", "postgres"))
    to = parser.parse_args()

    data = load_breast_cancer()
    columns = [name.replace(" ", "_") for name in data.feature_names]
    rows = io.BytesIO()
    for features, benign in zip(data.data, data.target):
        rows.write(("\t".join([*(repr(float(value)) for value in features), str(int(benign))]) + "\n").encode())
    rows.seek(0)

    connection = pg8000.native.Connection(
        to.user, host=to.host, port=to.port, database=to.database, password=os.environ["PGPASSWORD"], timeout=30
    )
    try:
        connection.run(f"DROP TABLE IF EXISTS {TABLE}")
        connection.run(f"CREATE TABLE {TABLE} ({', '.join(f'{c} double precision' for c in columns)}, benign smallint)")
        connection.run(f"COPY {TABLE} FROM STDIN", stream=rows)
        print(f"{connection.row_count} rows in the table {TABLE}")
    finally:
        connection.close()


if __name__ == "__main__":
    main()
