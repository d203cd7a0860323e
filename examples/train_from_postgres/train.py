"""Trains a classifier on a table of a PostgreSQL database, whose password only the workspace's vault knows.

Where the database is stands in the arguments; the password is read by name inside the run, goes into the connection and
nowhere else. Submit it with `kluis run submit --secret db-password train.py --host ... --user ...`.
"""

import argparse
import os
import ssl

import joblib
import numpy
import pg8000.native
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kluis import Run

TARGET = "benign"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default=os.environ.get("PGHOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PGPORT", "5432")))
    parser.add_argument("--user", default=os.environ.get("PGUSER", "postgres"))
    parser.add_argument("--database", default=os.environ.get("PGDATABASE", "postgres"))
    parser.add_argument("--table", default="tumours")
    parser.add_argument("--secret", default="db-password", help="the name of the password in the vault")
    parser.add_argument("--tls", action="store_true", help="encrypt the connection; do so outside of your own machine")
    return parser.parse_args()


def load(source: argparse.Namespace, password: str) -> tuple:
    """The table's features and target."""
    connection = pg8000.native.Connection(
        source.user,
        host=source.host,
        port=source.port,
        database=source.database,
        password=password,
        timeout=30,
        ssl_context=ssl.create_default_context() if source.tls else None,
    )
    try:
        rows = connection.run(f"SELECT * FROM {pg8000.native.identifier(source.table)}")
        columns = [column["name"] for column in connection.columns]
    finally:
        connection.close()
    table = numpy.array(rows, dtype=float)
    target = columns.index(TARGET)
    return numpy.delete(table, target, axis=1), table[:, target].astype(int)


def main() -> None:
    source = arguments()
    run = Run.get_context()
    features, target = load(source, run.get_secret(source.secret))
    print(f"{len(features)} rows of {features.shape[1]} features from {source.host}:{source.port}/{source.database}")
    run.log("rows", len(features))

    split = train_test_split(features, target, test_size=0.25, random_state=0, stratify=target)
    train_features, test_features, train_target, test_target = split
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    run.log_list("fold_accuracy", cross_val_score(model, train_features, train_target, cv=5))

    model.fit(train_features, train_target)
    accuracy = accuracy_score(test_target, model.predict(test_features))
    run.log("accuracy", accuracy)
    run.log("roc_auc", roc_auc_score(test_target, model.predict_proba(test_features)[:, 1]))
    print(f"accuracy on {len(test_target)} rows that were held back: {accuracy:.3f}")

    os.makedirs("outputs", exist_ok=True)
    joblib.dump(model, "outputs/model.pkl")


if __name__ == "__main__":
    main()
