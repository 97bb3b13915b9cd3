//! The one table of diagnostic codes. E1xx: the text, keys, steps; E2xx: image, paths, artifacts, mounts,
//! limits; W: warnings. A code keeps its meaning for ever; a retired one is not used again.

/// Declares the codes: variant, written form, one line of meaning, an explanation.
macro_rules! codes {
    ($($variant:ident $id:literal $meaning:literal $explanation:literal)*) => {
        /// What a diagnostic is about, as a stable code such as `E103`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Returns the code as users see it: `E103`.
            pub const fn id(self) -> &'static str {
                match self { $(Code::$variant => $id),* }
            }

            /// Returns the one-line meaning, the same that `docs/job-file.md` shows.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning),* }
            }

            /// Returns what it is about, why it is so, and how to mend it: some paragraphs, examples indented.
            pub const fn explanation(self) -> &'static str {
                match self { $(Code::$variant => $explanation),* }
            }
        }
    };
}

codes! {
    Yaml "E100" "the file is not valid YAML"
        "What stands there cannot be read as YAML at all. The usual reasons are indentation that does not match \
         the lines above, a tab in the indentation, a bracket or quote that is never closed, and `: ` inside a \
         word that is not quoted.\n\
         \n\
         Quote values that contain `: ` or begin with one of `*&!|>'\"%@{[`, and put scripts into a block:\n\
         \n\
         \x20   - run: |\n\
         \x20       echo \"done: all of it\""
    Version "E101" "the file's `version` is not one this program reads"
        "A file says which version of the format it is written in; without `version` it is 1. A file of a later \
         version may use keys that this program would misread, so it reads none of it.\n\
         \n\
         Use a newer `runner`, or write `version: 1`."
    DuplicateKey "E102" "a key is given twice in one map"
        "A map has the key twice. Most YAML readers silently take the last one; here that is an error, because \
         the first one was meant as well.\n\
         \n\
         Join the two, or remove one."
    UnknownKey "E103" "a key that does not exist here"
        "The key does not exist at this place. Nothing is ignored: a misspelt `timeout` would otherwise be a job \
         without one. The message names the nearest key that exists, and where a key belongs that exists \
         elsewhere.\n\
         \n\
         At the top level, keys that begin with `x-` are passed over: they are a place for YAML anchors."
    MissingUnit "E104" "a size or a duration is a bare number"
        "A number alone does not say what it counts. Sizes have a unit of `B`, `K`, `M`, `G`, `T` (powers of \
         1024), durations of `ms`, `s`, `m`, `h`, `d`. Only `0` needs none.\n\
         \n\
         \x20   timeout: 15m\n\
         \x20   limits: {memory: 2G}"
    WrongType "E105" "a value has the wrong type"
        "The key takes something else: a list where text stands, a number where a map is expected. The message \
         says what is expected and what was found.\n\
         \n\
         Words such as `yes`, `no`, `on` and `off` are text in YAML 1.2; only `true` and `false` are booleans."
    BadQuantity "E106" "a size or a duration cannot be read"
        "The value is no size or duration. A size is a number and one unit, `1.5G`; a duration is numbers with \
         units from large to small, `1h30m`. Units are told apart by case: `M` is a size, `m` are minutes."
    ExpressionInRun "E107" "`${{ }}` inside `run`; scripts are not interpolated"
        "Scripts are never made of data. If `${{ }}` were replaced inside `run`, a branch named `$(rm -rf .)` \
         would be executed. A script gets values through the environment, where they are only text:\n\
         \n\
         \x20   - run: ./deploy \"$TARGET\"\n\
         \x20     env: {TARGET: \"${{ params.target }}\"}\n\
         \n\
         Besides, the script stays the same from run to run, so results can be compared."
    NotText "E108" "the file is not UTF-8 text"
        "Job files are UTF-8. Another encoding, or bytes of a binary file, cannot be shown or quoted safely.\n\
         \n\
         Convert it: `iconv -f LATIN1 -t UTF-8 job.yml > new.yml`."
    FileTooBig "E109" "the file is larger, deeper or expands to more than is read"
        "The file, or what its anchors and expressions expand to, is larger or deeper than any job needs. The \
         bounds keep a hostile file from filling the memory; docs/job-file.md lists them.\n\
         \n\
         Put large values into files of the project, and read them in the step."
    Documents "E110" "the file holds no document, or more than one"
        "A job file is one YAML document. An empty file holds none; a line `---` in the middle begins a second \
         one.\n\
         \n\
         Write several jobs below `jobs`."
    Tag "E111" "a YAML tag that has no meaning here"
        "Tags such as `!include` or `!!python/object` name types that this format does not have. A pattern that \
         begins with `!` needs quotes: `\"!build/tmp/**\"`."
    Merge "E112" "`<<` is given something other than maps"
        "`<<` merges the members of another map, or of several: `<<: *defaults` or `<<: [*one, *two]`. It was \
         given text, a number or a list of something else."
    Alias "E113" "an alias names no anchor, or itself"
        "`*name` stands for what `&name` marks, which must come before it in the file and must not contain it.\n\
         \n\
         A pattern that begins with `*` needs quotes: `\"*.log\"`."
    NulCharacter "E114" "a value contains a NUL character"
        "No argument, variable or path can contain a NUL character: the kernel takes it for the end. `\"\\0\"` in \
         a double-quoted YAML string is one."
    MissingKey "E115" "a required key is missing from a map"
        "The map form of this value needs the key: it says what the others are about."
    BadName "E116" "a name is empty, too long or has control characters"
        "Names stand in lists and on terminals: they have 1 to 128 characters and no control characters. A name \
         with a line break is usually a block scalar (`|`) that was not meant."
    NotAChoice "E117" "a value is not one of those that the key accepts"
        "The key takes one of a few words, and this is none of them. The message lists them."
    TooLong "E118" "a value is longer than can be passed to a program"
        "The kernel passes arguments and variables of at most 128 KiB each to a program (MAX_ARG_STRLEN), and \
         shells given as a list have a bound of their own. Put long text into a file, and let the step read it."
    TooMany "E119" "a list has more entries than are accepted"
        "There are more entries than any job needs; the bound keeps a hostile file from filling the memory."
    IncludeDigest "E121" "a file from the network is included without `sha256`, or with what is none"
        "What a server holds can be another file tomorrow, and nobody would see why the job is another one. The \
         digest says which file is meant; with another one the run does not begin.\n\
         \n\
         \x20   include:\n\
         \x20     - {path: \"https://example.org/ci/common.yml\", sha256: 5e88...}\n\
         \n\
         `sha256sum` of the file prints it. A file of the project needs none."
    IncludeCycle "E122" "files include or use each other in a circle, or too deep"
        "A file is laid over those that it includes, and theirs are read before; a circle would have no end. The \
         message shows the way around. What two files have in common belongs into a third one."
    IncludedFile "E123" "a file that is included or used cannot be read, or is none"
        "The file that `include` or `uses` names is not there, cannot be read, does not have the digest that it \
         should have, or holds something else. Paths start at the file that names them.\n\
         \n\
         Steps are taken from files of the project only, never from the network."
    Param "E130" "a param is declared in a way that makes no sense"
        "A param is `NAME: DEFAULT`, `NAME:` for one that must be given, or a map. A `choice` needs `options`, no \
         other type has them; a default must be of the param's own type; one that is required has no default.\n\
         \n\
         \x20   params:\n\
         \x20     target: {type: choice, options: [debug, release], default: debug}"
    UnknownParam "E131" "a param is given that the file does not declare"
        "`-p NAME=VALUE` names a param that the file does not declare. A misspelt one would otherwise silently \
         leave the default in force.\n\
         \n\
         Declare it below `params`, or correct the name."
    MissingParam "E132" "a param has no value"
        "The param has no default, so the run needs a value: `runner exec job.yml -p NAME=VALUE`. `runner check` \
         does not ask for values."
    ParamValue "E133" "a param's value is not of its type or not one of its options"
        "The value is not of the param's type: `bool` takes `true` and `false`, `int` a whole number, `choice` \
         one of its `options`."
    ParamName "E134" "a param's name is malformed, or two have one variable"
        "A param's name has letters, digits, `_` and `-`, a letter or `_` first, at most 63. Each is also a \
         variable: `dry-run` is `PARAM_DRY_RUN`, so `dry-run` and `dry_run` cannot both exist."
    StepsAndJobs "E140" "`steps` and `jobs` stand at the same level"
        "A file is one job, which has `steps`, or several, which are members of `jobs`. Both at once would leave \
         open whose the steps are.\n\
         \n\
         Put the steps into a job below `jobs`."
    BadId "E141" "an id is not lower-case letters, digits, `-` and `_`"
        "An id becomes a directory's name and a word of expressions: a lower-case letter, then up to 62 \
         lower-case letters, digits, `-` and `_`. `name` takes any text."
    UnknownNeed "E142" "`needs` names a job that does not exist"
        "`needs` lists ids of jobs in this file, as they stand below `jobs`; a job with a matrix is named without \
         its cells."
    NeedCycle "E143" "jobs need each other in a circle"
        "Each of these jobs waits for another one of them, so none could ever begin. The message shows the \
         circle.\n\
         \n\
         Remove one of the needs, or move what both need into a job of its own."
    MatrixTooBig "E144" "a matrix, or all of them together, have more cells than are accepted"
        "A matrix has at most 256 cells, and a file at most 2,000 jobs and cells. A matrix multiplies: four axes \
         with five values are 625.\n\
         \n\
         Leave out combinations with `exclude`, or list the ones that matter with `include`."
    Matrix "E145" "a matrix has an axis without values, an unknown axis, or no cells"
        "An axis of a matrix needs at least one value, `exclude` and `include` are maps whose `exclude` keys are \
         axes, and something must be left when all exclusions are applied."
    NoJobs "E146" "`jobs` is empty"
        "`jobs` is a map with at least one job:\n\
         \n\
         \x20   jobs:\n\
         \x20     build: {image: alpine:3.20, steps: [make]}"
    NoSteps "E150" "the job has no steps"
        "A job is its steps: at least one. `steps:` with nothing below it is usually a line too far to the left.\n\
         \n\
         \x20   steps:\n\
         \x20     - make\n\
         \x20     - make test"
    NoRun "E151" "a step has no `run`"
        "A step is a command: text, which is a script, or a map with `run`.\n\
         \n\
         \x20   - make\n\
         \x20   - {run: make test, timeout: 10m}"
    DuplicateId "E152" "two steps have the same id"
        "Ids name steps in expressions, records and on the command line: two steps of one job cannot share one."
    Shell "E153" "`shell` is not one of the known shells, nor a list with one `{0}`"
        "`shell` is `sh`, `bash` or `python3`, or a list: a program and its arguments, with `{0}` exactly once \
         where the script's path goes. It is never guessed from the image, so that one file means one thing \
         everywhere.\n\
         \n\
         \x20   shell: [perl, -w, \"{0}\"]"
    EmptyRun "E154" "`run` has nothing to run"
        "`run` is empty, or a list whose program is. A step that does nothing would always succeed."
    ExpectExit "E155" "`expect-exit` is empty or outside 0 to 255"
        "`expect-exit` says which exit codes are success: one number or a list of numbers from 0 to 255. An empty \
         list would make every end a failure."
    Retry "E156" "`retry` is out of its range, or names an end that does not exist"
        "`retry` is a number of times, 0 to 100, or a map with `max`. `on` lists the ends after which it is tried \
         again: `failure`, `signal`, `oom`, `timeout`, `infra`, or `exit:N` for one exit code; `backoff` is a \
         factor from 1 to 10.\n\
         \n\
         \x20   retry: {max: 3, on: [exit:7, timeout], delay: 2s, backoff: 2}"
    StepForm "E157" "a step is more than one thing, or has a key that has no use in it"
        "A step is one of `run`, `wait`, `cancel` and `parallel`. The last three run no command of their own, so what \
         a command is given (`env`, `user`, `timeout`, ...) has no use beside them. A member of `parallel` is a \
         command: it neither waits nor contains another `parallel`.\n\
         \n\
         \x20   - {run: ./server, id: web, background: true}\n\
         \x20   - {run: ./test, timeout: 5m}\n\
         \x20   - {cancel: web}"
    NoBackground "E158" "`wait` or `cancel` names no step above that runs in the background"
        "`wait` and `cancel` name steps by their id. The step must stand above, and have `background: true`; the \
         members of `parallel` are waited for by themselves. `wait: all` waits for every one that still runs.\n\
         \n\
         A step without an `id` has one made of its `name`, else `step-N`; give it one of its own to name it."
    EnvName "E165" "the name of an environment variable is malformed"
        "The name of a variable has letters, digits and `_`, and no digit first. Others can be set by programs \
         but not used in a shell."
    Workdir "E166" "`workdir` is empty or leaves the workspace by `..`"
        "`workdir` is a path inside the sandbox; a relative one starts at the workspace. `..` could leave it in a \
         way that links make unpredictable, so it is not accepted."
    User "E167" "`user` is not `root`, `me`, a name or numbers"
        "`user` is `root`, `me` (the caller's own ids), a uid such as `1000`, `uid:gid`, or a name that the image \
         knows. Root inside is not root outside, whoever calls."
    Hostname "E168" "`hostname` is not a valid host name"
        "A host name has letters, digits and inner hyphens, dots between its parts, at most 63 characters in all."
    Expression "E171" "an expression cannot be read, or names what does not exist there"
        "Inside `${{ }}` or `if` stands something that is no expression, or a name that cannot exist at this \
         place: a step that comes later, a job that is not among `needs`, a context that is not known yet. It is \
         an error before anything runs, because it would be null in every run."
    Evaluation "E172" "an expression cannot be evaluated"
        "The expression is well-formed, but cannot be settled with the values given: `fromJSON` of what is no \
         JSON, a map where text is needed, more bytes than a file may have."
    NoImage "E201" "the job has no `image`"
        "A job needs a root filesystem to run in: its own `image`, or one beside `jobs` that is the default of \
         all. `image: host` uses this machine's own programs and needs no download."
    ImageForm "E203" "`image` has none of the accepted forms"
        "`image` is a name in a registry (`alpine:3.20`), a tarball by path or URL, `dir:PATH`, `oci:PATH`, \
         `archive:PATH`, `local:NAME`, or `host`. docs/job-file.md has all forms."
    Checksum "E204" "`sha256` is not 64 hexadecimal digits"
        "A SHA-256 digest has 64 hexadecimal digits. `sha256sum FILE` prints the one of a tarball."
    ChecksumUnused "E208" "`sha256` is given for an image that has none"
        "`sha256` holds a tarball or an image's manifest to its digest. Directories, `host` and layouts have no \
         such digest, and one that is not checked would only look like a promise."
    ImageUrl "E209" "the image's URL is malformed or contains a password"
        "The URL cannot be read, is neither http nor https, or contains a password, which would stand in records \
         and logs. Logins are kept as `docker login` keeps them; see docs/images.md."
    GlobLeaves "E210" "a pattern is absolute or leaves the workspace by `..`"
        "Patterns are relative to the workspace and never leave it, neither by `..` nor through a link. What a \
         step wants to keep must lie below its workspace: copy it there first."
    GlobSyntax "E211" "a pattern cannot be read"
        "The pattern cannot be read: a bracket or brace is not closed, a range is backwards, or a backslash ends \
         it. A backslash before a special character makes it an ordinary one."
    ImageName "E212" "the name of an image is malformed"
        "The name of an image is lower-case, `[REGISTRY/]PATH[:TAG][@sha256:DIGEST]`. Upper-case letters stand \
         only in tags and in the registry's host."
    Mount "E222" "a mount is not `host:path`, `host:path:ro` or `host:path:rw`"
        "A short mount is `HOST:PATH`, with `:ro` (which is also the default) or `:rw` behind it. A path with a \
         colon in it needs the map form:\n\
         \n\
         \x20   mounts: [{host: \"odd:name\", path: /odd, ro: false}]"
    MountPath "E224" "a mount's path inside is not one that can be mounted on"
        "The path inside is absolute, has no `..`, is not `/`, and is not on or below `/proc`, `/sys` or `/dev`, \
         which every step has for itself."
    DuplicateMount "E225" "two mounts have the same path inside"
        "Two mounts have the same path inside: one would hide the other."
    LimitTooSmall "E232" "a limit or a time is zero, negative or too small"
        "A limit or a time of zero, or below what can be kept, would stop everything at once. Leave the key out \
         to have no limit. `grace: 0` and `quiet-timeout: 0` are meaningful and accepted."
    LimitTooBig "E233" "a limit or a time is larger than anything can be"
        "The value is larger than any machine has, or than the kernel can be told. Leave the key out to have no \
         limit."
    AllowedHost "E245" "an entry of `network.allow` is not a host, nor `host:port`"
        "An entry of `network.allow` is a host name, a name with `*.` before it, or an address, with `:PORT` or \
         without. It is no URL: no `https://`, no path.\n\
         \n\
         \x20   network: {allow: [crates.io:443, \"*.example.org\"]}"
    ServicePort "E251" "two services of one job have the same port"
        "The services of a job share its network, as processes of one machine do: two of them cannot listen on one \
         port, and a look at that port would not tell which of them is ready.\n\
         \n\
         Give one of them another port by its own means (a variable, an argument), and say so in `ready: {tcp: PORT}`. \
         Ports that an image exposes count as well, unless `ready` says otherwise."
    UnknownService "E252" "a service needs one that does not exist"
        "`needs` of a service names other services of the same job, by their keys below `services`. What other jobs \
         have is not there: a job's services live and end with it."
    ServiceCycle "E253" "services need each other in a circle"
        "Each of these services waits until another one of them is ready, so none could ever start. The message shows \
         the circle."
    ServiceReady "E254" "`ready` of a service cannot be used"
        "`ready` says in one way how one tells that a service is ready:\n\
         \n\
         \x20   ready: {tcp: 5432}\n\
         \x20   ready: {http: \"http://localhost:8080/health\", status: 200}\n\
         \x20   ready: {run: pg_isready -U postgres}\n\
         \x20   ready: {log: ready to accept connections}\n\
         \n\
         Beside it stand `timeout`, `interval` and `after`. Without any, it is the ports that the image exposes, else \
         its health check. A URL is `http://`, of `localhost` or the service's own name."
    PublishedPort "E255" "an entry of `ports` is not a port, nor `HOST:SERVICE`"
        "`ports` of a service makes ports of it reachable on the loopback of the machine that runs the job: \
         `\"8080:80\"` is 127.0.0.1:8080 outside and 80 inside, one number stands for both. Other addresses of the \
         machine are never published on."
    StopSignal "E256" "`stop-signal` is not a signal"
        "`stop-signal` is the signal that asks a service for its end: a name such as `SIGINT`, `SIGQUIT` or `SIGTERM`, \
         or a number of 1 to 64. What does not end within `grace` is killed."
    ServiceNetwork "E257" "services in a network that has no place for them"
        "Services need a network that is the job's own, and that steps may reach. With `network: none` steps reach \
         nothing but themselves; with `network: host` the services would stand open in this machine's network.\n\
         \n\
         `network: services` has the services and nothing else; `full` and `allow` have the services and the world."
    Capability "E247" "a capability that does not exist, or that no step can have"
        "A capability of `privileges` is a name of capabilities(7), such as `CAP_SYS_PTRACE`. Some are never given to a \
         step, because they reach beyond its user namespace or would count on this machine; docs/sandbox.md lists \
         what a step has and what it can be given."
    Untrusted "E248" "something that `--untrusted` refuses"
        "`--untrusted` runs a file that somebody else wrote: it may use the sandbox, and nothing that opens it, such as \
         mounts of this machine's paths, its network, more privileges or an open system call filter.\n\
         \n\
         Read the file and run it without `--untrusted` if you trust it."
    NoPaths "E262" "an artifact has no paths"
        "An artifact needs `paths`, with at least one pattern that is no exclusion."
    ArtifactName "E263" "an artifact's name cannot be a directory's name"
        "The name of an artifact becomes a directory below `artifacts/`: letters, digits, `.`, `_`, `-`, neither \
         `.` nor `-` first, at most 128."
    DuplicateArtifact "E264" "two artifacts have the same name"
        "Artifacts are kept side by side by name, so a job cannot have two of one name. Give one of them another \
         `name`, or join their `paths`."
    CachePath "E401" "a path that cannot be a cache's"
        "A cache is a directory that outlives the job, so its path is one of its own: relative to the workspace \
         (`target`), absolute in the image (`/var/cache/apt`), or below the home of the first step's user \
         (`~/.cargo/registry`). It is neither the whole workspace nor on or below `/proc`, `/sys` or `/dev`, and has no \
         `..`."
    DuplicateCache "E402" "two caches have the same path"
        "Two caches of one job have the same path: one would hide the other. To try several keys, give one cache \
         `restore-keys`."
    CacheKey "E403" "a key of a cache is empty, too long or has control characters"
        "A key is the name under which a cache is kept: text of 1 to 512 bytes without control characters. It usually ends \
         in a digest of what decides over the cache's content:\n\
         \n\
         \x20   caches:\n\
         \x20     - {path: target, key: \"target-${{ hashFiles('Cargo.lock') }}\", restore-keys: [target-]}"
    SecretContext "E303" "an expression names `secrets`"
        "Secrets are not values of expressions: an expression's result ends in plans, records and messages."
    SecretValue "E301" "a secret is written into the file"
        "`secrets` says which secrets there are, never what they are: a job file lies in a repository, and what was \
         once there stays in its history. The value comes from outside: `--secret NAME` takes it from the \
         environment, `--secret NAME=@FILE` from a file, `--secrets-file FILE` takes several.\n\
         \n\
         A secret that has stood in a file is one no longer: change it."
    UnknownSecret "E305" "a step names a secret that the job does not declare"
        "A step sees only the secrets that it names, and names only those that its job declares:\n\
         \n\
         \x20   secrets: [DEPLOY_KEY]\n\
         \x20   steps:\n\
         \x20     - {run: ./deploy, secrets: [DEPLOY_KEY]}"
    SecretName "E306" "the name of a secret is malformed, or stands there twice"
        "The name of a secret has letters, digits and `_`, and no digit first: it is also the name of a file, and \
         may be that of a variable."
    HostImage "W411" "`image: host` is whatever this machine has: not reproducible"
        "`image: host` runs the steps with the programs that this machine happens to have: another machine, or \
         this one next month, may give another result. It needs no download, which suits first steps and machines \
         whose set-up is the point.\n\
         \n\
         For results that stay the same, name an image with its digest, or a tarball with `sha256`."
    NoChecksum "W412" "an image is downloaded without a `sha256` to hold it to"
        "What a URL gives can change from one day to the next, by accident or by malice. With `sha256` the \
         download is held to what you have seen:\n\
         \n\
         \x20   image: {ref: \"https://example.org/rootfs.tar.xz\", sha256: \"...\"}\n\
         \n\
         `sha256sum` of the downloaded file prints it."
    SeccompOff "W441" "no system call is filtered"
        "With `seccomp: off` a step can make every system call that its user namespace allows, and more of the \
         kernel is within its reach. Name a profile that allows the one call that is needed instead."
}

impl Code {
    /// Returns whether this is an error or a warning; the code's first letter says it.
    pub fn severity(self) -> Severity {
        if self.id().starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

/// A code with what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explained {
    /// `E103`.
    pub id: &'static str,
    /// One line.
    pub meaning: &'static str,
    /// Some paragraphs, examples indented.
    pub text: &'static str,
}

/// The codes of what only a run can find out.
const OF_RUNS: &[Explained] = &[
    Explained {
        id: "E221",
        meaning: "a mount's source on this machine cannot be used",
        text: "A mount shows a path of this machine to the steps, so it must exist and be a directory or a file. A \
         relative path starts at the job file's directory; `~` is not expanded.",
    },
    Explained {
        id: "E242",
        meaning: "nested sandboxes and a workspace of root's",
        text: "With `privileges: nested` a step may make sandboxes of its own, and their root may write to the \
         workspace. Where the workspace belongs to uid 0, files made there could count on this machine as root's.\n\
         \n\
         Use `workspace: copy`, or keep the project in a directory that belongs to an ordinary user.",
    },
    Explained {
        id: "E244",
        meaning: "a seccomp profile cannot be read",
        text: "`seccomp: PATH` names a profile in the JSON form of OCI, relative to the job file's directory. The file \
         must exist, be at most as large as the message says, and contain only actions and system calls that are \
         known; the message says where it stops making sense.",
    },
    Explained {
        id: "E243",
        meaning: "the image has no user of this name",
        text: "`user` names somebody whom the image's /etc/passwd does not list. The message lists whom it has; a \
         number works with every image: `user: 1000`.",
    },
    Explained {
        id: "E258",
        meaning: "a service has nothing to run",
        text: "A service runs what its image says: Entrypoint and Cmd. This image says neither; tarballs, directories and \
         `host` never do. Say it in the job file:\n\
         \n\
         \x20   services:\n\
         \x20     web: {image: ./rootfs.tar, run: [httpd, -f, -p, \"80\"]}",
    },
    Explained {
        id: "E259",
        meaning: "a port of a service cannot be published",
        text: "`ports` of a service listens on the loopback of this machine, and that port is taken there, or may not be \
         used by who runs `runner`. Choose another one: `ports: [\"18080:80\"]`.",
    },
    Explained {
        id: "E261",
        meaning: "nothing matches an artifact's paths",
        text: "The step was to leave something, and no file matched: usually a misspelt path, or one that is relative \
         to another directory than the workspace. The message says how far the pattern came.\n\
         \n\
         `optional: true` accepts an artifact without files; `when: always` also collects after a failure.",
    },
    Explained {
        id: "E302",
        meaning: "a secret cannot be hidden in output, or cannot be a variable",
        text: "Whatever a step prints is searched for the values of secrets, and what is found is replaced. A value \
         that is short, or a word or a number of fewer than twelve characters, stands in ordinary text as well: \
         hiding it would make logs unreadable, and would tell everybody what it is.\n\
         \n\
         A secret has at least six bytes, and at least twelve if it is only lower-case letters, only upper-case \
         letters or only digits; at most 64 KiB. One that is to be a variable is text without NUL.",
    },
    Explained {
        id: "E304",
        meaning: "a file of secrets can be read by others",
        text: "`--secrets-file` takes a file that nobody but its owner can read or write: `chmod 600 FILE`. Who can \
         write it can choose what your steps are given.",
    },
    Explained {
        id: "E308",
        meaning: "a secret has no value",
        text: "A job declares the secret and does not say `required: false`, so the run needs its value:\n\
         \n\
         \x20   runner exec job.yml --secret TOKEN\n\
         \x20   runner exec job.yml --secret DEPLOY_KEY=@key.pem\n\
         \n\
         The first takes it from the variable of this name, the second from a file. Jobs that are not run need \
         none.",
    },
    Explained {
        id: "E309",
        meaning: "a secret is given that no job declares",
        text: "A misspelt name would leave the step without its secret. Declare it in the job, `secrets: [NAME]`, and \
         name it in the steps that see it.",
    },
    Explained {
        id: "E310",
        meaning: "a secret is in what a job leaves",
        text: "A file that was to be kept as an artifact contains the value of a secret, as it is or encoded: a build \
         wrote its environment into it, or a configuration file was picked up by a pattern that is too wide. \
         Artifacts are passed on and kept for long, so nothing of this one was kept, and the run ends with exit \
         code 6.\n\
         \n\
         The message names the file and the place. Narrow `paths`, or keep the secret out of the file. \
         `--allow-secret-in-artifacts` keeps it knowingly.",
    },
    Explained {
        id: "W461",
        meaning: "no file matches a pattern of `reports`",
        text: "The job names files that tell of its tests, coverage or findings, and none was there when it ended: a \
         misspelt path, one that is relative to another directory than the workspace, or a step that failed before it \
         wrote any. Reports tell what steps did and do not judge it, so this is a warning: whether the step succeeded \
         says its exit code.\n\
         \n\
         Where a missing file is to be a failure, name it in `artifacts` as well.",
    },
    Explained {
        id: "W462",
        meaning: "a report cannot be read",
        text: "A file that `reports` names is not what it should be: JUnit's XML, Cobertura's or JaCoCo's XML or lcov's \
         text, or SARIF. Often a program was ended while it wrote it. It may also be larger or deeper than reports are \
         read: 64 MiB, 64 elements within one another. It is kept as it is; only tests that stand before the fault count.",
    },
    Explained {
        id: "W421",
        meaning: "nothing tells when a service is ready",
        text: "The service's image exposes no port and has no health check, and the job file has no `ready`: the service \
         counts as ready as soon as it is started, and the first step may come too early.\n\
         \n\
         Say how one tells: `ready: {tcp: 6379}`, `{http: URL}`, `{run: COMMAND}` or `{log: TEXT}`.",
    },
    Explained {
        id: "E522",
        meaning: "this machine cannot give a job a network of its own",
        text: "The job asks for a network of its own, and this machine cannot give it one: /dev/net/tun is missing or \
         may not be used. It is never silently replaced by the machine's own network, from which a step could \
         reach everything.\n\
         \n\
         `runner doctor net` says what is missing. `network: none` needs nothing; `network: host` shares this \
         machine's network knowingly.",
    },
];

/// Returns every code there is, in the order of their numbers, errors before warnings.
pub fn all() -> Vec<Explained> {
    let of_file =
        |code: &Code| Explained { id: code.id(), meaning: code.meaning(), text: code.explanation() };
    let mut all: Vec<Explained> = Code::ALL.iter().map(of_file).chain(OF_RUNS.iter().copied()).collect();
    all.sort_by_key(|code| code.id);
    all
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing runs.
    Error,
    /// The job runs; the user should know.
    Warning,
}

impl Severity {
    /// Returns the word that stands before the code: `error`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let ids: HashSet<_> = Code::ALL.iter().map(|code| code.id()).collect();
        assert_eq!(ids.len(), Code::ALL.len());
        for id in ids {
            let (letter, digits) = id.split_at(1);
            assert!(matches!(letter, "E" | "W") && digits.len() == 3, "{id}");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        }
    }
}
