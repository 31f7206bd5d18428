#!/bin/sh
# Sets up what is missing on Debian or Ubuntu, and nothing twice: the second time it neither asks the network nor waits.
#   infra/setup.sh            what `make rollout` needs: uv, the locked environment, Prometheus
#   infra/setup.sh browser    and what only `make test` needs: Chromium, a C compiler, a Redis and a PostgreSQL server
#   infra/setup.sh compiler   and what only `make compiled` needs
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

say() { printf '%s\n' "$*"; }
refuse() { printf 'setup: %s\n' "$*" >&2; exit 2; }

# A bare environment has no HOME, and uv wants a place for its cache.
if [ -z "${HOME:-}" ] || [ ! -d "${HOME:-/nonexistent}" ]; then
    HOME="$root/.bootstrap/home"
    mkdir -p "$HOME"
    export HOME
fi
# The machine's own certificates, where it has them: a company's proxy is trusted there and nowhere else.
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1
    export PIP_CERT="${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}"
fi
unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT PYTHONPATH PYTHONHOME || true

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        return 1
    fi
}

apt_updated=no
apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    say "setup: installing $* (apt)"
    if [ "$apt_updated" = no ]; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 || true
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "$@" >>"$log" 2>&1
}

mkdir -p .bootstrap
log="$root/.bootstrap/apt.log"

# ---- Python and uv -------------------------------------------------------------------------------------------------

command -v python3 >/dev/null 2>&1 || refuse "python3: not found, needs >= 3.11"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "python3: $(python3 -V 2>&1), needs >= 3.11"

if [ ! -x .bootstrap/bin/uv ]; then
    if ! python3 -c 'import ensurepip' >/dev/null 2>&1; then
        apt_install python3-venv || refuse "python3-venv: not installed and apt could not (see $log)"
    fi
    say "setup: uv in .bootstrap"
    python3 -m venv .bootstrap >"$root/.bootstrap/venv.log" 2>&1 ||
        refuse "python3 -m venv failed (see .bootstrap/venv.log)"
    .bootstrap/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5' ||
        refuse "uv: could not be installed from the package index (is the network there?)"
fi

# ---- the locked environment ----------------------------------------------------------------------------------------

# An environment keeps its interpreter: another python3 first on PATH must not rebuild it, least of all without a network.
python=$(command -v python3)
if [ -x .venv/bin/python ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python="$root/.venv/bin/python"
fi
stamp=$( { cat uv.lock pyproject.toml; "$python" -V; pwd; } | sha256sum | cut -d' ' -f1)
if [ ! -x .venv/bin/python ] || [ "$(cat .venv/.synced 2>/dev/null)" != "$stamp" ]; then
    say "setup: the locked environment in .venv (about 550 MB the first time)"
    UV_PYTHON_DOWNLOADS=never UV_PYTHON="$python" .bootstrap/bin/uv sync --locked --quiet ||
        refuse "uv sync --locked failed (is the network there? does uv.lock fit pyproject.toml?)"
    printf '%s' "$stamp" >.venv/.synced
fi

# ---- Prometheus ----------------------------------------------------------------------------------------------------

# Debian's packages start a service. It is kept from starting while we install it; a service that was there before is
# not touched, and neither is a policy that was there before.
install_without_starting() { # package, its service
    policy=/usr/sbin/policy-rc.d
    ours=no
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || return 1
        as_root chmod 755 "$policy"
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
    fi
    done=yes
    apt_install "$1" || done=no
    if [ "$ours" = yes ]; then
        as_root rm -f "$policy"
        trap - EXIT INT TERM
    fi
    [ "$done" = yes ] || return 1
    if [ -d /run/systemd/system ]; then # nor at the next boot: we only need the binary
        as_root systemctl disable --quiet "$2" >>"$log" 2>&1 || true
    fi
}

if [ -z "${PROMETHEUS_BIN:-}" ] && ! command -v prometheus >/dev/null 2>&1; then
    install_without_starting prometheus prometheus.service ||
        refuse "Prometheus: not found and apt could not install it (see $log); install >= 2.39 or set PROMETHEUS_BIN"
fi

# ---- Chromium, for the tests ---------------------------------------------------------------------------------------

if [ "${1:-}" = browser ] && ! command -v chromium >/dev/null 2>&1 && [ ! -e .bootstrap/browser ]; then
    # Ubuntu has Chromium as a snap only, which a container cannot run: there, Playwright brings its own.
    if ! { apt_install chromium && chromium --version >/dev/null 2>&1; }; then
        say "setup: Chromium by Playwright"
        .venv/bin/playwright install --with-deps chromium >>"$log" 2>&1 ||
            refuse "chromium: neither apt nor playwright could install it (see $log)"
        : >.bootstrap/browser
    fi
fi

# ---- a C compiler and Python's headers, for the compiled bot ---------------------------------------------------------

if [ "${1:-}" = browser ] || [ "${1:-}" = compiler ]; then
    if ! command -v gcc >/dev/null 2>&1 && ! command -v cc >/dev/null 2>&1; then
        apt_install gcc libc6-dev || refuse "gcc: not found and apt could not install it (see $log)"
    fi
    headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    if [ ! -e "$headers/Python.h" ]; then
        apt_install "python$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev" ||
            refuse "$headers/Python.h: not found and apt could not install python3-dev (see $log)"
    fi
fi

# ---- Redis, for the tests ------------------------------------------------------------------------------------------

if [ "${1:-}" = browser ] && ! command -v redis-server >/dev/null 2>&1; then
    install_without_starting redis-server redis-server.service ||
        refuse "redis-server: not found and apt could not install it (see $log); the journal's tests need >= 6"
fi

# ---- PostgreSQL, for the tests -------------------------------------------------------------------------------------

# Debian keeps its binaries out of PATH, by version. The cluster that its package makes is never started.
if [ "${1:-}" = browser ] && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null 2>&1
then
    install_without_starting postgresql postgresql.service ||
        refuse "PostgreSQL: not found and apt could not install it (see $log); the record's tests need >= 12"
fi
