-- The first schema. Ids are 16 bytes, hashes and MACs 32, times milliseconds since 1970, names stand twice: as first
-- spelled (name) and in lower case (name_key), which is what is compared. Every row below a workspace names it.

CREATE TABLE installation (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    id               BLOB    NOT NULL CHECK (length(id) = 16),
    epoch            INTEGER NOT NULL CHECK (epoch >= 1),
    created          INTEGER NOT NULL,
    installation_key BLOB    NOT NULL,
    signing_key      BLOB    NOT NULL,
    canary           BLOB    NOT NULL,
    root_source      TEXT    NOT NULL
) STRICT;

CREATE TABLE sealed_blob (
    name  TEXT NOT NULL PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- Identity ---------------------------------------------------------------------------------------------------------

CREATE TABLE principal (
    id       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name     TEXT    NOT NULL,
    name_key TEXT    NOT NULL UNIQUE,
    kind     TEXT    NOT NULL CHECK (kind IN ('user', 'service_principal', 'agent')),
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    epoch    INTEGER NOT NULL CHECK (epoch >= 1),
    revision INTEGER NOT NULL CHECK (revision >= 1),
    mac      BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT, WITHOUT ROWID;

-- A face's token dies with what it was made from: another token or a client secret.
CREATE TABLE token (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    principal     BLOB    NOT NULL REFERENCES principal (id),
    kind          TEXT    NOT NULL CHECK (kind IN ('native', 'face')),
    label         TEXT    NOT NULL,
    hash          BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created       INTEGER NOT NULL,
    expires       INTEGER,
    audience      TEXT,
    parent_token  BLOB    REFERENCES token (id) ON DELETE CASCADE,
    parent_secret BLOB    REFERENCES client_secret (id) ON DELETE CASCADE,
    revision      INTEGER NOT NULL CHECK (revision >= 1),
    mac           BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK ((kind = 'face') = (audience IS NOT NULL)),
    CHECK ((kind = 'face') = (parent_token IS NOT NULL OR parent_secret IS NOT NULL)),
    CHECK (parent_token IS NULL OR parent_secret IS NULL),
    CHECK (kind = 'native' OR expires IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_principal ON token (principal, created) WHERE kind = 'native';
CREATE INDEX token_face ON token (principal, expires) WHERE kind = 'face';
CREATE INDEX token_expires ON token (expires) WHERE expires IS NOT NULL;
CREATE INDEX token_parent_token ON token (parent_token) WHERE parent_token IS NOT NULL;
CREATE INDEX token_parent_secret ON token (parent_secret) WHERE parent_secret IS NOT NULL;

CREATE TABLE client_secret (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    principal BLOB    NOT NULL REFERENCES principal (id),
    hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revision  INTEGER NOT NULL CHECK (revision >= 1),
    mac       BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_secret_principal ON client_secret (principal, created);
CREATE INDEX client_secret_expires ON client_secret (expires) WHERE expires IS NOT NULL;

-- A login by device code that waits for somebody to approve it.
CREATE TABLE device (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    hash          BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    user_hash     BLOB    NOT NULL UNIQUE CHECK (length(user_hash) = 32),
    audience      TEXT,
    label         TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    network       TEXT    NOT NULL,
    created       INTEGER NOT NULL,
    expires       INTEGER NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('waiting', 'approved', 'denied')),
    approved_by   BLOB    REFERENCES principal (id),
    approved_with BLOB    CHECK (length(approved_with) = 16),
    mac           BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK ((state = 'approved') = (approved_by IS NOT NULL)),
    CHECK ((state = 'approved') = (approved_with IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX device_expires ON device (expires);
CREATE INDEX device_network ON device (network, expires);

-- Workspaces -------------------------------------------------------------------------------------------------------

CREATE TABLE workspace (
    id                       BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name                     TEXT    NOT NULL,
    name_key                 TEXT    NOT NULL UNIQUE,
    created                  INTEGER NOT NULL,
    retention_days           INTEGER NOT NULL CHECK (retention_days BETWEEN 0 AND 65535),
    require_declared_secrets INTEGER NOT NULL CHECK (require_declared_secrets IN (0, 1)),
    enforce_validity         INTEGER NOT NULL CHECK (enforce_validity IN (0, 1)),
    deleted                  INTEGER,
    revision                 INTEGER NOT NULL CHECK (revision >= 1),
    mac                      BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE workspace_key (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace BLOB    NOT NULL REFERENCES workspace (id),
    wrapped   BLOB    NOT NULL,
    current   INTEGER NOT NULL CHECK (current IN (0, 1)),
    created   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX workspace_key_current ON workspace_key (workspace) WHERE current = 1;
CREATE INDEX workspace_key_workspace ON workspace_key (workspace, created);

CREATE TABLE compute (
    id        BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name      TEXT    NOT NULL,
    name_key  TEXT    NOT NULL UNIQUE,
    open      INTEGER NOT NULL CHECK (open IN (0, 1)),
    created   INTEGER NOT NULL,
    revision  INTEGER NOT NULL CHECK (revision >= 1),
    mac       BLOB    NOT NULL CHECK (length(mac) = 32),
    last_seen INTEGER
) STRICT, WITHOUT ROWID;

-- At most one grant per principal, scope and effect.
CREATE TABLE role_grant (
    principal BLOB    NOT NULL REFERENCES principal (id),
    scope     TEXT    NOT NULL CHECK (scope IN ('installation', 'workspace', 'compute')),
    workspace BLOB    REFERENCES workspace (id),
    compute   BLOB    REFERENCES compute (id),
    effect    TEXT    NOT NULL CHECK (effect IN ('allow', 'deny')),
    role      TEXT    NOT NULL CHECK (role IN ('owner', 'contributor', 'secrets-writer', 'reader', 'agent')),
    revision  INTEGER NOT NULL CHECK (revision >= 1),
    mac       BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK ((scope = 'workspace') = (workspace IS NOT NULL)),
    CHECK ((scope = 'compute') = (compute IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX role_grant_place ON role_grant (principal, scope, coalesce(workspace, compute, x''), effect);
CREATE INDEX role_grant_workspace ON role_grant (workspace) WHERE workspace IS NOT NULL;
CREATE INDEX role_grant_compute ON role_grant (compute) WHERE compute IS NOT NULL;

CREATE TABLE invite (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name       TEXT    NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('user', 'service_principal', 'agent')),
    workspace  BLOB    REFERENCES workspace (id),
    role       TEXT    CHECK (role IN ('owner', 'contributor', 'secrets-writer', 'reader', 'agent')),
    compute    BLOB    CHECK (length(compute) = 16),
    created_by BLOB    NOT NULL REFERENCES principal (id),
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    redeemed   INTEGER,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK ((workspace IS NULL) = (role IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_expires ON invite (expires);
CREATE INDEX invite_workspace ON invite (workspace) WHERE workspace IS NOT NULL;

-- Secrets ----------------------------------------------------------------------------------------------------------

CREATE TABLE secret (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace  BLOB    NOT NULL REFERENCES workspace (id),
    name       TEXT    NOT NULL,
    name_key   TEXT    NOT NULL,
    current    BLOB    NOT NULL CHECK (length(current) = 16),
    deleted_at INTEGER,
    purge_at   INTEGER,
    revision   INTEGER NOT NULL CHECK (revision >= 1),
    created    INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    mac        BLOB    NOT NULL CHECK (length(mac) = 32),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL)),
    UNIQUE (workspace, name_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX secret_purge_at ON secret (purge_at) WHERE purge_at IS NOT NULL;

-- The sealed value stands last: a list never reads the pages it overflows to.
CREATE TABLE version (
    seq          INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    workspace    BLOB    NOT NULL REFERENCES workspace (id),
    secret       BLOB    NOT NULL REFERENCES secret (id),
    enabled      INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    content_type TEXT,
    tags         TEXT    NOT NULL CHECK (json_valid(tags)),
    not_before   INTEGER,
    expires      INTEGER,
    revision     INTEGER NOT NULL CHECK (revision >= 1),
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    created_by   BLOB    NOT NULL CHECK (length(created_by) = 16),
    mac          BLOB    NOT NULL CHECK (length(mac) = 32),
    key_id       BLOB    NOT NULL REFERENCES workspace_key (id),
    wrapped_key  BLOB    NOT NULL,
    value        BLOB    NOT NULL
) STRICT;
CREATE INDEX version_secret ON version (secret, seq);
CREATE INDEX version_key ON version (key_id);

-- Experiments and runs ---------------------------------------------------------------------------------------------

CREATE TABLE experiment (
    seq         INTEGER PRIMARY KEY,
    workspace   BLOB    NOT NULL REFERENCES workspace (id),
    name        TEXT    NOT NULL,
    name_key    TEXT    NOT NULL,
    created     INTEGER NOT NULL,
    last_number INTEGER NOT NULL CHECK (last_number >= 0),
    runs        INTEGER NOT NULL CHECK (runs >= 0),
    UNIQUE (workspace, name_key)
) STRICT;

-- What was submitted (spec) grants, together with who submitted it and for where; a child run has none, and no MAC. The
-- declared secrets stand apart as well, so that a request of its launcher reads no more than it needs; spec stands last,
-- so that nobody passes the pages it overflows to. Silence is counted from silent_since: the last sign of life, later by
-- the time in which the server did not listen.
CREATE TABLE run (
    seq              INTEGER PRIMARY KEY,
    workspace        BLOB    NOT NULL REFERENCES workspace (id),
    id               TEXT    NOT NULL,
    id_key           TEXT    NOT NULL,
    experiment       INTEGER NOT NULL REFERENCES experiment (seq),
    number           INTEGER NOT NULL CHECK (number >= 1),
    parent           INTEGER REFERENCES run (seq),
    status           TEXT    NOT NULL,
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    submitted_by     BLOB    NOT NULL REFERENCES principal (id),
    compute          TEXT    NOT NULL,
    compute_key      TEXT    NOT NULL,
    secrets          TEXT    CHECK (json_valid(secrets)),
    request_hash     BLOB    CHECK (length(request_hash) = 32),
    max_attempts     INTEGER NOT NULL CHECK (max_attempts >= 1),
    retries          INTEGER NOT NULL CHECK (retries >= 0),
    attempt          INTEGER NOT NULL CHECK (attempt >= 0),
    created          INTEGER NOT NULL,
    started          INTEGER,
    ended            INTEGER,
    last_contact     INTEGER,
    silent_since     INTEGER,
    exit             TEXT    CHECK (json_valid(exit)),
    blame            TEXT    CHECK (blame IN ('script', 'engine', 'kluis', 'user')),
    reason           TEXT,
    phase            TEXT    NOT NULL,
    engine_job       TEXT,
    tags             TEXT    NOT NULL CHECK (json_valid(tags)),
    properties       TEXT    NOT NULL CHECK (json_valid(properties)),
    display_name     TEXT,
    leaks            TEXT    NOT NULL CHECK (json_valid(leaks)),
    notices          INTEGER NOT NULL CHECK (notices >= 0),
    revision         INTEGER NOT NULL CHECK (revision >= 1),
    mac              BLOB    CHECK (length(mac) = 32),
    spec             TEXT    CHECK (json_valid(spec)),
    CHECK ((spec IS NULL) = (mac IS NULL)),
    CHECK ((spec IS NULL) = (parent IS NOT NULL)),
    UNIQUE (workspace, id_key)
) STRICT;
CREATE INDEX run_queue ON run (compute_key, seq) WHERE status = 'queued';
CREATE INDEX run_top ON run (workspace, seq) WHERE parent IS NULL;
CREATE INDEX run_experiment ON run (experiment, seq) WHERE parent IS NULL;
CREATE INDEX run_child ON run (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX run_silent ON run (status, silent_since) WHERE status IN ('running', 'unresponsive');
CREATE INDEX run_open ON run (workspace) WHERE status IN ('queued', 'starting', 'running', 'unresponsive');
CREATE INDEX run_open_of ON run (submitted_by) WHERE status IN ('queued', 'starting', 'running', 'unresponsive');
CREATE INDEX run_live ON run (submitted_by) WHERE status IN ('starting', 'running', 'unresponsive');

-- Which version an attempt was given, once for all its nodes. Kept for ever; live while the attempt is. The name is the
-- secret's at that time: the secret may be purged.
CREATE TABLE pin (
    run     INTEGER NOT NULL REFERENCES run (seq),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    secret  BLOB    NOT NULL CHECK (length(secret) = 16),
    version BLOB    NOT NULL CHECK (length(version) = 16),
    name    TEXT    NOT NULL,
    first   INTEGER NOT NULL,
    live    INTEGER NOT NULL CHECK (live IN (0, 1)),
    PRIMARY KEY (run, attempt, secret)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_live ON pin (secret) WHERE live = 1;

-- What the code in a run has made in rows, beside its log and outputs. It is bounded: rows take the room that reads need.
CREATE TABLE run_usage (
    run      INTEGER NOT NULL PRIMARY KEY REFERENCES run (seq),
    metrics  INTEGER NOT NULL CHECK (metrics >= 0),
    children INTEGER NOT NULL CHECK (children >= 0),
    changes  INTEGER NOT NULL CHECK (changes >= 0),
    bytes    INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT, WITHOUT ROWID;

-- Attempts ---------------------------------------------------------------------------------------------------------

CREATE TABLE attempt (
    run         INTEGER NOT NULL REFERENCES run (seq),
    attempt     INTEGER NOT NULL CHECK (attempt >= 1),
    compute_key TEXT    NOT NULL,
    agent       BLOB    NOT NULL REFERENCES principal (id),
    nodes       INTEGER NOT NULL CHECK (nodes >= 1),
    leased      INTEGER NOT NULL,
    expires     INTEGER NOT NULL,
    confirmed   INTEGER,
    handle      TEXT,
    ended       INTEGER,
    PRIMARY KEY (run, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_open ON attempt (compute_key, run) WHERE ended IS NULL;

CREATE TABLE session (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    run            INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    node           INTEGER NOT NULL CHECK (node >= 0),
    public_key     BLOB    NOT NULL CHECK (length(public_key) = 32),
    host           TEXT    NOT NULL,
    alive          INTEGER NOT NULL CHECK (alive IN (0, 1)),
    opened         INTEGER NOT NULL,
    reads_received INTEGER NOT NULL CHECK (reads_received >= 0),
    FOREIGN KEY (run, attempt) REFERENCES attempt (run, attempt),
    UNIQUE (run, attempt, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_alive ON session (run) WHERE alive = 1;

-- A ticket is fresh until it is bound to a key (with its session) or void.
CREATE TABLE ticket (
    id      BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    run     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    node    INTEGER NOT NULL CHECK (node >= 0),
    hash    BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    void    INTEGER NOT NULL CHECK (void IN (0, 1)),
    session BLOB    REFERENCES session (id),
    FOREIGN KEY (run, attempt) REFERENCES attempt (run, attempt),
    UNIQUE (run, attempt, node)
) STRICT, WITHOUT ROWID;

-- Until when the server listened: what came after is nobody's silence.
CREATE TABLE listening (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    until INTEGER NOT NULL
) STRICT;

-- Logs, metrics, outputs -------------------------------------------------------------------------------------------

CREATE TABLE blob (
    workspace BLOB    NOT NULL REFERENCES workspace (id),
    id        BLOB    NOT NULL CHECK (length(id) = 16),
    kind      TEXT    NOT NULL CHECK (kind IN ('snapshot', 'log', 'output')),
    bytes     INTEGER NOT NULL CHECK (bytes >= 0),
    created   INTEGER NOT NULL,
    orphaned  INTEGER,
    PRIMARY KEY (workspace, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_orphaned ON blob (orphaned) WHERE orphaned IS NOT NULL;

CREATE TABLE log_chunk (
    seq      INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL REFERENCES run (seq),
    attempt  INTEGER NOT NULL CHECK (attempt >= 1),
    node     INTEGER NOT NULL CHECK (node >= 0),
    first    INTEGER NOT NULL CHECK (first >= 0),
    next     INTEGER NOT NULL,
    blob     BLOB    NOT NULL CHECK (length(blob) = 16),
    bytes    INTEGER NOT NULL CHECK (bytes >= 0),
    lines    INTEGER NOT NULL CHECK (lines >= 0),
    received INTEGER NOT NULL,
    CHECK (next > first),
    UNIQUE (run, attempt, node, first)
) STRICT;
CREATE INDEX log_chunk_arrival ON log_chunk (run, attempt, seq);

CREATE TABLE metric (
    seq     INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL REFERENCES run (seq),
    source  INTEGER NOT NULL REFERENCES run (seq),
    attempt INTEGER NOT NULL CHECK (attempt >= 1),
    node    INTEGER NOT NULL CHECK (node >= 0),
    number  INTEGER NOT NULL CHECK (number >= 0),
    name    TEXT    NOT NULL,
    kind    TEXT    NOT NULL CHECK (kind IN ('scalar', 'list', 'row', 'table')),
    value   TEXT    NOT NULL CHECK (json_valid(value)),
    step    INTEGER,
    time    INTEGER NOT NULL,
    UNIQUE (source, attempt, node, number)
) STRICT;
CREATE INDEX metric_run ON metric (run, seq);

CREATE TABLE output (
    run   INTEGER NOT NULL REFERENCES run (seq),
    path  TEXT    NOT NULL,
    blob  BLOB    NOT NULL CHECK (length(blob) = 16),
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    time  INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;

-- Audit ------------------------------------------------------------------------------------------------------------

-- The records of a committed batch, in order: each a length of four bytes, most significant first, then the leaf.
CREATE TABLE audit_page (
    first_seq INTEGER PRIMARY KEY CHECK (first_seq >= 0),
    count     INTEGER NOT NULL CHECK (count >= 1),
    entries   BLOB    NOT NULL
) STRICT;
CREATE TRIGGER audit_page_stays BEFORE UPDATE ON audit_page BEGIN SELECT raise(ABORT, 'audit pages never change'); END;
CREATE TRIGGER audit_page_remains BEFORE DELETE ON audit_page BEGIN SELECT raise(ABORT, 'audit pages never go'); END;

CREATE TABLE audit_head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    frontier BLOB    NOT NULL CHECK (length(frontier) >= 8)
) STRICT;
INSERT INTO audit_head (one, frontier) VALUES (1, zeroblob(8));

CREATE TABLE checkpoint (
    seq          INTEGER PRIMARY KEY,
    installation BLOB    NOT NULL CHECK (length(installation) = 16),
    epoch        INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    root         BLOB    NOT NULL CHECK (length(root) = 32),
    time         INTEGER NOT NULL,
    signature    TEXT    NOT NULL,
    public_key   TEXT    NOT NULL
) STRICT;
