//! What was typed and what the environment says, read once. Nothing else in this crate reads either.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kluis_client::config;
use kluis_core::access::Role;
use kluis_core::id::{InviteId, PrincipalId, TokenId, VersionId};
use kluis_core::name::{ComputeName, ExperimentName, PrincipalName, RunId, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::run::RunStatus;
use kluis_server::config::HostName;
use zeroize::Zeroizing;

use crate::output::Output;
use crate::reference::Reference;
use crate::{usage, values};

/// Secrets for ML training runs.
#[derive(Debug, Parser)]
#[command(name = "kluis", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  kluis up                                             a server on this machine
  kluis secret set db-password                         asks for the value, without echo
  kluis run submit --secret db-password train.py       a run that may read it
  kluis run logs --follow RUN

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 not found, 4 not signed in or not allowed,
5 unreachable, 6 conflict. `run wait`, `run submit --wait` and `exec` give the run's own code,
128 + signal, 120 canceled, 121 lost, 122 the engine or Kluis; 130 left by Ctrl-C, and going on.

Environment: KLUIS_ADDR, KLUIS_CA_SHA256, KLUIS_TOKEN (or KLUIS_CLIENT_ID and KLUIS_CLIENT_SECRET),
KLUIS_WORKSPACE, KLUIS_CONFIG_DIR, KLUIS_FORMAT=json.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Data and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server's address, such as https://kluis.example.org:8443
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) addr: Option<String>,
    /// The SHA-256 pin of the server's CA
    #[arg(long, global = true, value_name = "HEX")]
    pub(crate) ca_sha256: Option<String>,
    /// The workspace
    #[arg(long, short, global = true, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a one-machine server; the first start creates everything
    Up(Up),
    /// Sign in with an invitation, or with a token to a server whose pin you know
    Login(Login),
    /// Forget this machine's login and revoke it
    #[command(after_help = "Example:\n  kluis logout")]
    Logout,
    /// Your logins, on this machine and elsewhere
    #[command(subcommand)]
    Token(Token),
    /// Show who is signed in, where, and with which roles
    #[command(after_help = "Example:\n  kluis whoami --json")]
    Whoami,
    /// Write .kluis/config.json for this project; it holds no secret and is made to be committed
    #[command(after_help = "Example:\n  kluis init --workspace fraud")]
    Init,
    /// Workspaces and their members
    #[command(subcommand)]
    Workspace(Workspace),
    /// Secrets of the workspace's vault
    #[command(subcommand)]
    Secret(Secret),
    /// Training runs
    #[command(subcommand)]
    Run(Run),
    /// Run a command here, with secrets, masked
    Exec(Exec),
    /// Compute targets
    #[command(subcommand)]
    Compute(Compute),
    /// Serve a compute target from this machine
    Agent(Agent),
    /// The launcher that an agent starts; reads its hand-over from standard input
    #[command(hide = true)]
    Launch {
        /// The stage between the launcher and the user's program
        #[arg(value_parser = ["confine"])]
        stage: Option<String>,
    },
    /// What packages made for Azure need to find this server
    #[command(subcommand)]
    Azure(Azure),
    /// The audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Principals, invitations, keys, and work on a stopped server
    #[command(subcommand)]
    Admin(Admin),
    /// Print a completion script
    #[command(after_help = "Example:\n  kluis completions bash > ~/.local/share/bash-completion/completions/kluis")]
    Completions {
        /// For this shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    #[command(after_help = "Example:\n  kluis man ~/.local/share/man/man1")]
    Man {
        /// The folder
        folder: PathBuf,
    },
}

/// Where the server's data and root key are.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the options are called so")]
pub(crate) struct Data {
    /// The data folder; by default kluis in the XDG data folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The root key's file; by default root.key in the data folder. Keep a copy elsewhere: without it all is lost
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key_file: Option<PathBuf>,
    /// Take the root key from a passphrase, read from this file's first line
    #[arg(long, value_name = "FILE", conflicts_with = "root_key_file")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kluis up
  kluis up --listen 0.0.0.0:8443 --host kluis.example.org
  kluis up --data /srv/kluis --root-key-file /etc/kluis/root.key

When ready it prints one line, `ready https://HOST:PORT`. SIGTERM stops it; runs go on.")]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = kluis_server::config::DEFAULT_LISTEN)]
    pub(crate) listen: String,
    /// A further name or address by which clients reach this server; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<HostName>,
    /// A site's certificate chain (PEM) up to its authority's certificate, which clients pin, instead of a private one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Do not serve the compute target `server` from this process
    #[arg(long)]
    pub(crate) no_runner: bool,
    /// Run jobs under this uid even where they can not be confined
    #[arg(long)]
    pub(crate) unsafe_local: bool,
    /// Jobs at once on the compute target `server`
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) slots: u32,
    /// The launcher's path, when it is not beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) launcher: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kluis login kluis_invite_...                                  an invitation, from `kluis admin invite`
  kluis login https://kluis.example.org:8443 --ca-sha256 HEX     asks for a token, without echo
  kluis login https://kluis.example.org:8443 --ca-sha256 HEX --token-stdin < token
  kluis login --device-code https://kluis.example.org:8443 --ca-sha256 HEX    approved elsewhere:
  kluis login approve WDJB-MJHT                                  where you are signed in already")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Login {
    /// An invitation's code, or the server's address
    #[arg(value_name = "CODE|URL")]
    pub(crate) target: Option<String>,
    /// Show a short code, which you approve where you are signed in already
    #[arg(long, conflicts_with = "token_stdin")]
    pub(crate) device_code: bool,
    /// Read a token from standard input
    #[arg(long)]
    pub(crate) token_stdin: bool,
    /// What this login is called in lists of tokens; by default this machine's name
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Option<LoginCommand>,
}

/// What else is done about logins.
#[derive(Debug, Subcommand)]
pub(crate) enum LoginCommand {
    /// Let a program sign in as you: it shows this code. Asks first, and says who wants it
    #[command(after_help = "Example:\n  kluis login approve WDJB-MJHT")]
    Approve {
        /// The code that it shows
        code: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Refuse it instead, so that it stops waiting
        #[arg(long, conflicts_with = "yes")]
        deny: bool,
    },
}

/// What packages made for Azure need
#[derive(Debug, Subcommand)]
pub(crate) enum Azure {
    /// Print the variables that make packages made for Azure find this server, for `eval`
    Env(AzureEnv),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  eval \"$(kluis azure env)\"
  kluis azure env --shell fish | source
  KLUIS_CLIENT_SECRET=... kluis azure env --client-id ID        as a service principal

It prints a credential: a new token named `azure env`, or the client secret that was given. It also
writes azure-ca-bundle.pem into the config folder: this system's authorities, and the server's.")]
pub(crate) struct AzureEnv {
    /// For this shell
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    pub(crate) shell: Shell,
    /// How long the token lives
    #[arg(long, value_name = "TIME", default_value = "12h", value_parser = values::duration)]
    pub(crate) life: Duration,
    /// As this service principal, with the secret in KLUIS_CLIENT_SECRET, instead of as you
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<PrincipalId>,
}

/// How variables are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash, zsh and other POSIX shells
    Sh,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// List your tokens
    #[command(after_help = "Example:\n  kluis token list")]
    List,
    /// End a token: whoever uses it is refused from now on
    #[command(after_help = "Example:\n  kluis token revoke 0123456789abcdef0123456789abcdef")]
    Revoke {
        /// Its id, as `token list` shows it
        token: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Workspace {
    /// Create a workspace; you become its owner
    #[command(after_help = "Example:\n  kluis workspace create fraud")]
    Create {
        /// Its name
        name: WorkspaceName,
    },
    /// List the workspaces you can see
    #[command(after_help = "Example:\n  kluis workspace list")]
    List,
    /// Show a workspace
    #[command(after_help = "Example:\n  kluis workspace show fraud")]
    Show {
        /// Its name; the configured one when left out
        name: Option<WorkspaceName>,
    },
    /// Make a workspace the default of this user
    #[command(after_help = "Example:\n  kluis workspace use fraud")]
    Use {
        /// Its name
        name: WorkspaceName,
    },
    /// Delete a workspace with everything in it
    #[command(after_help = "Examples:\n  kluis workspace delete fraud\n  kluis workspace delete fraud --yes")]
    Delete {
        /// Its name
        name: WorkspaceName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Members
    #[command(subcommand)]
    Member(Member),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Member {
    /// Give a principal a role
    #[command(after_help = "Example:\n  kluis workspace member add ann --role reader")]
    Add {
        /// Name or id
        principal: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = RoleName::Contributor)]
        role: RoleName,
    },
    /// Take a principal's role
    #[command(after_help = "Example:\n  kluis workspace member remove ann")]
    Remove {
        /// Name or id
        principal: String,
    },
    /// List the members
    #[command(after_help = "Example:\n  kluis workspace member list --workspace fraud")]
    List,
}

/// A role in a workspace.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Everything, members included
    Owner,
    /// Read and write secrets, submit runs
    Contributor,
    /// Set, delete and list secrets; never read a value
    SecretsWriter,
    /// Names, runs, logs; no values
    Reader,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Owner => Self::Owner,
            RoleName::Contributor => Self::Contributor,
            RoleName::SecretsWriter => Self::SecretsWriter,
            RoleName::Reader => Self::Reader,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Set a secret: from a hidden prompt, standard input, a file or the environment
    #[command(after_help = "Examples:
  kluis secret set db-password                        asks twice, without echo
  pass show db | kluis secret set db-password -       standard input
  kluis secret set ssh-key @id_ed25519                a file
  kluis secret set hf-token --from-env HF_TOKEN       an environment variable
  kluis secret set --env-file .env                    every entry of a file; all are set or none")]
    Set(SecretSet),
    /// Print a value; on a terminal only with --reveal. In a run, read through its launcher
    #[command(after_help = "Examples:
  kluis secret get db-password | some-program
  kluis secret get secret://team/db-password@0123456789abcdef0123456789abcdef --reveal")]
    Get {
        /// NAME or secret://WORKSPACE/NAME[@VERSION]
        name: Reference,
        /// Show the value on a terminal
        #[arg(long)]
        reveal: bool,
        /// This version; the current one when left out
        #[arg(long, value_name = "VERSION")]
        version: Option<VersionId>,
    },
    /// List names, never values
    #[command(after_help = "Examples:\n  kluis secret list\n  kluis secret list --deleted")]
    List {
        /// The deleted ones, which can be recovered
        #[arg(long)]
        deleted: bool,
    },
    /// List a secret's versions
    #[command(after_help = "Example:\n  kluis secret versions db-password")]
    Versions {
        /// The secret
        name: Reference,
    },
    /// Allow a disabled version to be read again
    #[command(after_help = "Example:\n  kluis secret enable db-password@0123456789abcdef0123456789abcdef")]
    Enable {
        /// NAME[@VERSION], or secret://WORKSPACE/NAME[@VERSION]; the current version when left out
        name: Reference,
    },
    /// Stop a version from being read
    #[command(after_help = "Example:\n  kluis secret disable db-password@0123456789abcdef0123456789abcdef")]
    Disable {
        /// NAME[@VERSION], or secret://WORKSPACE/NAME[@VERSION]; the current version when left out
        name: Reference,
    },
    /// Delete a secret; it can be recovered until it is purged
    #[command(after_help = "Example:\n  kluis secret delete db-password")]
    Delete {
        /// The secret
        name: Reference,
    },
    /// Bring a deleted secret back
    #[command(after_help = "Example:\n  kluis secret recover db-password")]
    Recover {
        /// The secret
        name: Reference,
    },
    /// Erase a deleted secret for good
    #[command(after_help = "Examples:\n  kluis secret purge db-password\n  kluis secret purge db-password --yes")]
    Purge {
        /// The secret
        name: Reference,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Set a secret to a random value, which is not shown
    #[command(after_help = "Example:\n  kluis secret generate session-key --length 48")]
    Generate {
        /// The secret
        name: Reference,
        /// How many characters, 8 to 256
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(8..=256))]
        length: u16,
    },
    /// Set every entry of a .env file; all are set or none
    #[command(after_help = "Example:\n  kluis secret import .env")]
    Import {
        /// The file
        file: PathBuf,
        /// Set empty values
        #[arg(long)]
        allow_empty: bool,
    },
    /// Write values as a .env file (mode 600), or to standard output with `-`
    #[command(
        after_help = "Examples:\n  kluis secret export backup.env\n  kluis secret export - db-password hf-token | some-program"
    )]
    Export {
        /// The file, or `-`
        file: PathBuf,
        /// These; all when left out
        names: Vec<Reference>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SecretSet {
    /// NAME or secret://WORKSPACE/NAME
    #[arg(required_unless_present = "env_file")]
    pub(crate) name: Option<Reference>,
    /// `-` for standard input, `@FILE` for a file; a hidden prompt when left out
    #[arg(value_name = "-|@FILE", num_args = 0..)]
    pub(crate) source: Vec<String>,
    /// Take the value of this environment variable
    #[arg(long, value_name = "VAR", conflicts_with = "source")]
    pub(crate) from_env: Option<String>,
    /// Set every entry of this .env file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "source", "from_env", "exact", "if_version"])]
    pub(crate) env_file: Option<PathBuf>,
    /// Keep a line break at the end
    #[arg(long)]
    pub(crate) exact: bool,
    /// Set an empty value
    #[arg(long)]
    pub(crate) allow_empty: bool,
    /// Say that it is not meant to be used after this: a duration such as 90d, or an RFC 3339 time
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
    /// A hint for readers
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) tags: Vec<(String, String)>,
    /// Refuse unless the current version is this one; `none`: unless the secret does not exist
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Submit a run; prints its id at once
    #[command(after_help = "Examples:
  kluis run submit train.py --epochs 3
  kluis run submit --compute gpu-box --secret db-password --wait train.py
  kluis run submit --secret-env PGPASSWORD=db-password -- make train

Ctrl-C with --wait detaches and exits with 130; twice within two seconds cancels the run.")]
    Submit(Box<Submit>),
    /// List runs, newest first
    #[command(after_help = "Example:\n  kluis run list --experiment churn --status failed")]
    List {
        /// Only this experiment's
        #[arg(long, short)]
        experiment: Option<ExperimentName>,
        /// Only runs in this status
        #[arg(long, value_parser = status)]
        status: Option<RunStatus>,
        /// Only this run's children
        #[arg(long)]
        parent: Option<RunId>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a run: where it stands, how it ended, who is to blame
    #[command(after_help = "Example:\n  kluis run show churn_1795530000_1a2b3c4d")]
    Show {
        /// The run
        run: RunId,
    },
    /// Print a run's log, masked where it ran
    #[command(
        after_help = "Examples:\n  kluis run logs --follow churn_1795530000_1a2b3c4d\n  kluis run logs --system --tail 20 churn_1795530000_1a2b3c4d"
    )]
    Logs {
        /// The run
        run: RunId,
        /// Stay until the run has ended
        #[arg(long, short)]
        follow: bool,
        /// What Kluis did, instead of what the script wrote
        #[arg(long)]
        system: bool,
        /// Before each line, when it was written
        #[arg(long)]
        timestamps: bool,
        /// Only the last lines
        #[arg(long, value_name = "N")]
        tail: Option<u32>,
        /// This attempt's
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
    },
    /// Wait for a run's end; exits with the run's code
    #[command(after_help = "Example:\n  kluis run wait churn_1795530000_1a2b3c4d && echo done")]
    Wait {
        /// The run
        run: RunId,
    },
    /// Ask for a run's end
    #[command(after_help = "Example:\n  kluis run cancel churn_1795530000_1a2b3c4d")]
    Cancel {
        /// The run
        run: RunId,
    },
    /// List the secrets that a run was given, with versions
    #[command(after_help = "Example:\n  kluis run secrets churn_1795530000_1a2b3c4d")]
    Secrets {
        /// The run
        run: RunId,
    },
    /// Print a run's metrics
    #[command(after_help = "Example:\n  kluis run metrics churn_1795530000_1a2b3c4d --json")]
    Metrics {
        /// The run
        run: RunId,
    },
    /// List the files that a run uploaded
    #[command(after_help = "Example:\n  kluis run outputs churn_1795530000_1a2b3c4d")]
    Outputs {
        /// The run
        run: RunId,
    },
    /// Download what a run uploaded and its log, or the tree that it ran in
    #[command(
        after_help = "Examples:\n  kluis run download churn_1795530000_1a2b3c4d\n  kluis run download --snapshot --to tree churn_1795530000_1a2b3c4d"
    )]
    Download {
        /// The run
        run: RunId,
        /// Only the files that it uploaded, not its log
        #[arg(long)]
        outputs: bool,
        /// The tree that it ran in
        #[arg(long, conflicts_with = "outputs")]
        snapshot: bool,
        /// Into this folder; by default one named after the run
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

fn status(text: &str) -> Result<RunStatus, String> {
    RunStatus::parse(text).ok_or_else(|| {
        let all: Vec<_> = RunStatus::ALL.iter().map(|s| s.as_str()).collect();
        format!("expected one of {}", all.join(", "))
    })
}

/// Which secrets a run may read, and how it gets them.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the options are called so")]
pub(crate) struct Secrets {
    /// A secret that the run may read; may be repeated. None: whatever you may read
    #[arg(long = "secret", value_name = "NAME")]
    pub(crate) secrets: Vec<Reference>,
    /// Give it as an environment variable; visible to whoever may read the process
    #[arg(long = "secret-env", value_name = "VAR=NAME", value_parser = values::placed)]
    pub(crate) secret_env: Vec<(String, Reference)>,
    /// Give it as a file in the run's private secrets folder
    #[arg(long = "secret-file", value_name = "PATH=NAME", value_parser = values::placed)]
    pub(crate) secret_files: Vec<(String, Reference)>,
    /// A plain environment variable; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) environment: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Where to run: a compute target; `local` is this machine. By default what the project or you have configured, else
    /// `local`
    #[arg(long, short, value_name = "NAME")]
    pub(crate) compute: Option<ComputeName>,
    /// The tree to run in; by default the current folder
    #[arg(long, value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    /// The experiment; by default the tree's name
    #[arg(long, short, value_name = "NAME")]
    pub(crate) experiment: Option<ExperimentName>,
    #[command(flatten)]
    pub(crate) secrets: Secrets,
    /// The Python to run a script with
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<String>,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) tags: Vec<(String, String)>,
    /// Whole devices
    #[arg(long, value_name = "N")]
    pub(crate) gpus: Option<u32>,
    /// Whole cores
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u32>,
    /// Memory, such as 16GiB
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    pub(crate) memory: Option<u64>,
    /// End the run after so long, such as 2h
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) time: Option<Duration>,
    /// Attempts when the engine loses one
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,
    /// Links that lead out of the tree: name them and submit nothing, or store them unread
    #[arg(long, value_name = "HOW", value_enum, default_value_t = LinksOption::Refuse)]
    pub(crate) links: LinksOption,
    /// The run's id, for who has told it to somebody already
    #[arg(long, value_name = "RUN", hide = true)]
    pub(crate) run_id: Option<RunId>,
    /// Follow the log, and exit with the run's code
    #[arg(long)]
    pub(crate) wait: bool,
    /// A script and its arguments; or, after `--`, a command and its arguments
    #[arg(
        value_name = "SCRIPT [ARGS]... | -- CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) program: Vec<String>,
    /// Whether `--` stood before the program.
    #[arg(skip)]
    pub(crate) is_command: bool,
}

/// What to do with links that lead out of the tree.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LinksOption {
    // Without texts of their own: those would turn the whole help into its long form.
    Refuse,
    Keep,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kluis exec --secret-env PGPASSWORD=db-password -- psql -h db -U trainer
  kluis exec --secret hf-token -- python notebook.py     reads by Run.get_context().get_secret
  kluis exec --like churn_1795530000_1a2b3c4d -- bash    a shell where that run was
  kluis exec --like churn_1795530000_1a2b3c4d            that run once more, here

The command runs in the current folder, with a run's clean environment; its output is masked.
On a terminal it has one; Ctrl-C and other signals are its own.")]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) secrets: Secrets,
    /// Repeat this run: in a copy of its tree, with its variables, secrets and Python
    #[arg(long, value_name = "RUN")]
    pub(crate) like: Option<RunId>,
    /// The command and its arguments; with --like, by default what that run executed
    #[arg(value_name = "CMD", required_unless_present = "like", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Compute {
    /// Create a compute target: a queue that agents serve
    #[command(after_help = "Examples:\n  kluis compute create gpu-box\n  kluis compute create gpu-box --closed")]
    Create {
        /// Its name
        name: ComputeName,
        /// Only those may use it to whom it is granted
        #[arg(long)]
        closed: bool,
    },
    /// List the targets you can use
    #[command(after_help = "Example:\n  kluis compute list")]
    List,
    /// Make a target the default of this user
    #[command(after_help = "Example:\n  kluis compute use gpu-box")]
    Use {
        /// Its name; `local` is this machine
        name: ComputeName,
    },
    /// Show a target
    #[command(after_help = "Example:\n  kluis compute show gpu-box")]
    Show {
        /// Its name
        name: ComputeName,
    },
    /// Delete a target
    #[command(after_help = "Example:\n  kluis compute delete gpu-box")]
    Delete {
        /// Its name
        name: ComputeName,
    },
    /// Let a principal use a closed target
    #[command(after_help = "Example:\n  kluis compute grant gpu-box ann")]
    Grant {
        /// The target
        name: ComputeName,
        /// Name or id
        principal: String,
    },
    /// Take that back
    #[command(after_help = "Example:\n  kluis compute revoke gpu-box ann")]
    Revoke {
        /// The target
        name: ComputeName,
        /// Name or id
        principal: String,
    },
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  kluis agent enroll kluis_invite_...          once, with the code of `kluis admin invite --agent`
  kluis agent --compute gpu-box --slots 2 --gpus 0,1
  kluis agent --compute gpu-box --mine         only your own runs; needs no root and no invitation"
)]
pub(crate) struct Agent {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    /// The compute target to serve
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) compute: Option<ComputeName>,
    /// Serve your own runs only
    #[arg(long)]
    pub(crate) mine: bool,
    /// Jobs at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) slots: u32,
    /// Devices to share out among the slots, such as 0,1
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) gpus: Vec<String>,
    /// The Python for scripts on this machine
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<String>,
    /// The launcher's path, when it is not beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) launcher: Option<PathBuf>,
    /// Run jobs under this uid even where they can not be confined
    #[arg(long)]
    pub(crate) unsafe_local: bool,
    /// Where folders of runs lie; by default in the XDG state folder
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Only this run, WORKSPACE/RUN; what `run submit` starts for the target `local`
    #[arg(long, value_name = "WORKSPACE/RUN", hide = true)]
    pub(crate) run: Option<String>,
    /// Leave the terminal's session
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Use an agent's invitation on this machine
    #[command(after_help = "Example:\n  kluis agent enroll kluis_invite_...")]
    Enroll {
        /// The code
        code: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Print the newest records, and new ones as they come
    #[command(after_help = "Examples:
  kluis audit tail
  kluis audit tail --run churn_1795530000_1a2b3c4d --no-follow --json")]
    Tail {
        /// Only this run's
        #[arg(long)]
        run: Option<RunId>,
        /// The whole installation's, not only the workspace's
        #[arg(long, conflicts_with = "run")]
        all: bool,
        /// Start with the last so many, at most 200; of a run, everything is shown
        #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "run", value_parser = clap::value_parser!(u32).range(1..=200))]
        last: u32,
        /// Do not wait for new ones
        #[arg(long)]
        no_follow: bool,
    },
    /// Fetch the newest signed checkpoint: kept elsewhere, it shows a rollback or a rewrite of the log
    #[command(after_help = "Example:\n  kluis audit checkpoint --out checkpoint.json")]
    Checkpoint {
        /// Into this file; by default standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Invite a user or an agent: prints a code that works once
    #[command(after_help = "Examples:
  kluis admin invite ann --role contributor                     into the current workspace
  kluis admin invite --agent gpu-box --compute gpu-box")]
    Invite {
        /// The name of the user or agent
        name: PrincipalName,
        /// An agent, not a user
        #[arg(long)]
        agent: bool,
        /// For an agent: the target it will serve; by default the one of its name
        #[arg(long, requires = "agent")]
        compute: Option<ComputeName>,
        /// For a user: become a member of the workspace, with this role
        #[arg(long, value_enum, conflicts_with = "agent")]
        role: Option<RoleName>,
        /// How long the code works, such as 2h
        #[arg(long, value_parser = values::duration, value_name = "TIME")]
        life: Option<Duration>,
    },
    /// Users, service principals and agents
    #[command(subcommand)]
    Principal(Principal),
    /// Invitations that nobody has used yet
    #[command(subcommand)]
    Invitation(Invitation),
    /// Secrets of service principals, for KLUIS_CLIENT_ID and KLUIS_CLIENT_SECRET
    #[command(subcommand)]
    ClientSecret(ClientSecret),
    /// Rotate keys
    #[command(subcommand)]
    Key(Key),
    /// Look a stopped server's data over: root key, database, audit log
    #[command(after_help = "Example:\n  kluis admin doctor --data /srv/kluis")]
    Doctor(Data),
    /// Give the owner a new login, on the stopped server's machine
    #[command(
        after_help = "Examples:\n  kluis admin reset-owner\n  kluis admin reset-owner --address https://kluis.example.org:8443 --ca-sha256 HEX"
    )]
    ResetOwner {
        #[command(flatten)]
        data: Data,
        /// The owner's name, when there are several
        #[arg(long)]
        owner: Option<PrincipalName>,
        /// The address to sign in to afterwards
        #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:8443")]
        address: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Principal {
    /// Create a service principal
    #[command(after_help = "Example:\n  kluis admin principal create ci")]
    Create {
        /// Its name
        name: PrincipalName,
    },
    /// List everybody
    #[command(after_help = "Example:\n  kluis admin principal list")]
    List,
    /// Let a disabled principal in again
    #[command(after_help = "Example:\n  kluis admin principal enable ann")]
    Enable {
        /// Name or id
        principal: String,
    },
    /// Refuse a principal's tokens from now on
    #[command(after_help = "Example:\n  kluis admin principal disable ann")]
    Disable {
        /// Name or id
        principal: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Invitation {
    /// List them
    #[command(after_help = "Example:\n  kluis admin invitation list")]
    List,
    /// End one: its code works no more
    #[command(after_help = "Example:\n  kluis admin invitation revoke 0123456789abcdef0123456789abcdef")]
    Revoke {
        /// Its id, as `invitation list` shows it
        invitation: InviteId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientSecret {
    /// Make one; it is shown once
    #[command(after_help = "Examples:
  kluis admin client-secret create ci
  kluis admin client-secret create ci --life 90d")]
    Create {
        /// The service principal, name or id
        principal: String,
        /// How long it works, such as 90d; by default until it is revoked
        #[arg(long, value_parser = values::duration, value_name = "TIME")]
        life: Option<Duration>,
    },
    /// List a service principal's
    #[command(after_help = "Example:\n  kluis admin client-secret list ci")]
    List {
        /// The service principal, name or id
        principal: String,
    },
    /// End one: whoever signs in with it is refused from now on
    #[command(after_help = "Example:\n  kluis admin client-secret revoke ci 0123456789abcdef0123456789abcdef")]
    Revoke {
        /// The service principal, name or id
        principal: String,
        /// Its id, as `client-secret list` shows it
        secret: TokenId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Give the workspace a new key; old values are rewrapped in the background
    #[command(after_help = "Example:\n  kluis admin key rotate-workspace --workspace fraud")]
    RotateWorkspace,
    /// Put everything under a new root key, on the stopped server's machine
    #[command(after_help = "Examples:
  kluis admin key rotate-root --data /srv/kluis
  kluis admin key rotate-root --passphrase-file old.txt --new-passphrase-file new.txt")]
    RotateRoot {
        #[command(flatten)]
        data: Data,
        /// The new passphrase, on this file's first line, where the root key comes from a passphrase
        #[arg(long, value_name = "FILE", requires = "passphrase_file")]
        new_passphrase_file: Option<PathBuf>,
    },
}

/// What the environment says.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) client: config::Environment,
    /// `KLUIS_FORMAT`.
    pub(crate) format: Option<String>,
    /// `KLUIS_RUN_SOCKET`: this process is part of a run.
    pub(crate) run_socket: Option<PathBuf>,
    /// Which of a run's processes this is: `RANK`, or what a scheduler or MPI says, else `KLUIS_RANK`.
    pub(crate) rank: u32,
    /// `KLUIS_LOG`: how much the server and agents log, such as `debug`.
    pub(crate) log: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) xdg_data_home: Option<PathBuf>,
    pub(crate) xdg_state_home: Option<PathBuf>,
    /// Everything, for launchers, which pass on a part of it.
    pub(crate) all: Vec<(OsString, OsString)>,
}

/// Reads both. On a wrong command line: prints why, and the exit code.
pub(crate) fn read() -> Result<(Arguments, Environment), ExitCode> {
    let raw: Vec<OsString> = std::env::args_os().collect();
    let mut arguments = Arguments::try_parse_from(&raw).map_err(|error| {
        if usage::is_answer(&error) {
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        let json = raw.iter().take_while(|word| *word != "--").any(|word| word == "--json")
            || variable("KLUIS_FORMAT").is_some_and(|format| *format == "json");
        let failure = usage::failure(&error, &raw, json);
        Output::new(json).failure(&failure);
        ExitCode::from(failure.exit)
    })?;
    if let Command::Run(Run::Submit(submit)) = &mut arguments.command {
        let before = raw.len().checked_sub(submit.program.len() + 1).and_then(|i| raw.get(i));
        submit.is_command = before.is_some_and(|word| word == "--");
    }
    Ok((arguments, environment()))
}

/// Who says which rank a process has, most particular first: the launcher knows nodes only.
const RANKS: [&str; 5] = ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "KLUIS_RANK"];

fn environment() -> Environment {
    let text = |name: &str| variable(name).map(|text| text.as_str().to_owned()).filter(|text| !text.is_empty());
    let path = |name: &str| text(name).map(PathBuf::from);
    let value = |name: &str| variable(name).and_then(|v| Plaintext::from_text(&v).ok()).filter(|v| !v.is_empty());
    #[expect(clippy::disallowed_methods, reason = "the environment is read here, once")]
    let all = std::env::vars_os().collect();
    Environment {
        client: config::Environment {
            address: text("KLUIS_ADDR"),
            ca_sha256: text("KLUIS_CA_SHA256"),
            workspace: text("KLUIS_WORKSPACE"),
            token: value("KLUIS_TOKEN"),
            client_id: text("KLUIS_CLIENT_ID"),
            client_secret: value("KLUIS_CLIENT_SECRET"),
            config_dir: path("KLUIS_CONFIG_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
        },
        format: text("KLUIS_FORMAT"),
        run_socket: path("KLUIS_RUN_SOCKET"),
        rank: RANKS.iter().find_map(|name| text(name)?.parse().ok()).unwrap_or(0),
        log: text("KLUIS_LOG"),
        user: text("USER").or_else(|| text("LOGNAME")),
        xdg_data_home: path("XDG_DATA_HOME"),
        xdg_state_home: path("XDG_STATE_HOME"),
        all,
    }
}

/// One variable, for `--from-env`. `None` when it is not set or is not text.
#[expect(clippy::disallowed_methods, reason = "the environment is read here, once")]
pub(crate) fn variable(name: &str) -> Option<Zeroizing<String>> {
    // A name with `=` or NUL can not be one.
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var(name).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_with_an_example_and_a_place_in_the_guide() {
        let guide = include_str!("../../../docs/guide/cli.md");
        let mut wanting = Vec::new();
        let mut open = vec![("kluis".to_owned(), Arguments::command())];
        while let Some((name, mut command)) = open.pop() {
            if command.is_hide_set() {
                continue;
            }
            let help = command.render_long_help().to_string();
            let is_group = command.is_subcommand_required_set() && name != "kluis";
            if command.get_about().is_none() || (!is_group && !help.contains("Example")) {
                wanting.push(format!("help of `{name}`"));
            }
            if !is_group && !guide.contains(&name) {
                wanting.push(format!("guide on `{name}`"));
            }
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                open.push((format!("{name} {}", inner.get_name()), inner.clone()));
            }
        }
        assert!(wanting.is_empty(), "{wanting:#?}");
    }
}
