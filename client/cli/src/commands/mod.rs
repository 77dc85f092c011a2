//! One function for each command: read what it needs, make one call, print.

mod backup;
mod crypto;
mod daemon;
mod data_keys;
mod delivery;
mod imports;
mod keys;
mod life;
mod macs;
mod manual;
mod naming;
mod pairs;
mod tombstones;
mod versions;

use std::time::Duration;

use claviger_client::{Client, Options};

use crate::args::{AsymmetricCommand, BackupCommand, Cli, Command, DataKeyCommand, Global, KeyCommand};
use crate::bench;
use crate::failure::Failure;
use crate::output::Screen;

/// Runs the command and gives the exit code.
pub(crate) async fn run(cli: Cli, screen: Screen) -> Result<u8, Failure> {
    let global = &cli.global;
    check(global)?;
    match cli.command {
        Command::Ping => daemon::ping(global, screen).await?,
        Command::Status => daemon::status(global, screen).await?,
        Command::Key(KeyCommand::Create(args)) => keys::create(global, screen, *args).await?,
        Command::Key(KeyCommand::Describe { key }) => keys::describe(global, screen, key).await?,
        Command::Key(KeyCommand::List(args)) => keys::list(global, screen, args).await?,
        Command::Key(KeyCommand::Enable(args)) => return keys::enable(global, screen, args).await,
        Command::Key(KeyCommand::Disable(args)) => return keys::disable(global, screen, args).await,
        Command::Key(KeyCommand::PublicKey(args)) => pairs::public_key(global, screen, args).await?,
        Command::Key(KeyCommand::Life(command)) => return life::run(global, screen, command).await,
        Command::Key(KeyCommand::Version(command)) => return versions::run(global, screen, command).await,
        Command::Key(KeyCommand::Import(command)) => return imports::run(global, screen, command).await,
        Command::Alias(command) => naming::alias(global, screen, command).await?,
        Command::Project(command) => return naming::project(global, screen, command).await,
        Command::DefaultKey(command) => naming::default_key(global, screen, command).await?,
        Command::Encrypt(args) => crypto::encrypt(global, screen, args).await?,
        Command::Decrypt(args) => crypto::decrypt(global, screen, args).await?,
        Command::ReEncrypt(args) => crypto::re_encrypt(global, screen, args).await?,
        Command::DescribeBlob(args) => crypto::describe_blob(global, screen, args).await?,
        Command::DataKey(DataKeyCommand::Generate(args)) => {
            data_keys::generate(global, screen, *args).await?;
        }
        Command::DataKey(DataKeyCommand::Export(args)) => data_keys::export(global, screen, *args).await?,
        Command::Sign(args) => pairs::sign(global, screen, args).await?,
        Command::Verify(args) => return pairs::verify(global, screen, args).await,
        Command::Asymmetric(AsymmetricCommand::Encrypt(args)) => pairs::encrypt(global, screen, args).await?,
        Command::Asymmetric(AsymmetricCommand::Decrypt(args)) => pairs::decrypt(global, screen, args).await?,
        Command::Mac(args) => macs::mac(global, screen, args).await?,
        Command::VerifyMac(args) => return macs::verify(global, screen, args).await,
        Command::Digest(args) => macs::digest(global, screen, args).await?,
        Command::Bench(args) => {
            let (client, options) = (connect(global).await?, options(global));
            return bench::run(client, &options, global, screen, *args).await;
        }
        Command::Backup(BackupCommand::Create { file, force }) => {
            backup::create(global, screen, &file, force).await?;
        }
        Command::Backup(BackupCommand::Verify { file }) => backup::verify(global, screen, &file).await?,
        Command::Backup(BackupCommand::List { key }) => tombstones::list(global, screen, key).await?,
        Command::Backup(BackupCommand::Tombstones { file, force }) => {
            tombstones::write(global, screen, &file, force).await?;
        }
        Command::Restore(args) => return Err(backup::restore(&args, screen)),
        Command::Random(args) => crypto::random(global, screen, args).await?,
        Command::Completions { shell } => manual::completions(shell).await?,
        Command::Man { dir } => manual::pages(&dir)?,
    }
    Ok(0)
}

/// Refuses what no command can do yet, rather than to connect as somebody else.
fn check(global: &Global) -> Result<(), Failure> {
    if global.access_key.is_some() || global.secret_key_file.is_some() {
        return Err(Failure::not_available(
            "access keys come with a later version; leave out --access-key, --secret-key-file and \
             their variables CLAVIGER_ACCESS_KEY and CLAVIGER_SECRET_KEY_FILE",
        ));
    }
    Ok(())
}

/// How long a call may take, if nobody says it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where keys are made.
const MAKING: Duration = Duration::from_secs(30);

async fn connect(global: &Global) -> Result<Client, Failure> {
    connect_with(global, options(global)).await
}

/// For calls that make key pairs: RSA_4096 takes an HSM many seconds.
async fn connect_patiently(global: &Global) -> Result<Client, Failure> {
    let options = options(global);
    let timeout = global.timeout.unwrap_or(MAKING);
    connect_with(global, Options { timeout, ..options }).await
}

async fn connect_with(global: &Global, options: Options) -> Result<Client, Failure> {
    let socket = global.socket.as_ref().filter(|socket| !socket.as_os_str().is_empty()).ok_or_else(|| {
        Failure::usage(
            "no socket is given; set --socket or CLAVIGER_SOCKET to the daemon's (clavigerd --dev prints it, \
             the configuration names it, such as /run/claviger/admin.sock)",
        )
    })?;
    Ok(Client::connect(socket, options).await?)
}

fn options(global: &Global) -> Options {
    Options {
        timeout: global.timeout.unwrap_or(PATIENCE),
        connect_timeout: global.timeout.unwrap_or(PATIENCE),
        agent: concat!("claviger/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Options::default()
    }
}
