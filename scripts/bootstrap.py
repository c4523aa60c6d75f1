"""Sets up `.venv` in the checkout: PETSc, petsc4py, mpi4py, the Python packages and npde_opt
itself.

Run by `make`; by hand: `python3 scripts/bootstrap.py`. Needs nothing but Python >= 3.11. What it
compiles goes into `$NPDE_CACHE` (default `~/.cache/npde_opt`), keyed by compiler, MPI, processor
and options, so that other clones take it from there. Where PETSC_DIR is set, that PETSc is used and
only petsc4py is built against it. A run that was interrupted is continued by the next; one that has
nothing to do ends at once.
"""

import configparser
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

PETSC_VERSION = "3.26.1"
ARCH = "arch-npde"
CONFIGURE = [
    "--with-cc=mpicc",
    "--with-blaslapack-lib=-lopenblas",
    "--with-cxx=0",
    "--with-fc=0",
    "--with-fortran-bindings=0",
    "--with-debugging=0",
    "--with-x=0",
    "--with-ssl=0",
    "--with-hwloc=0",
    "--with-cuda=0",
    "--with-hip=0",
    "--COPTFLAGS=-O3 -march=native -g0",
]
# What calls the kernels rather than being one: compiled at -O1, it takes half the time.
LIGHT = [
    "sys",
    "ts",
    "tao",
    "snes",
    "vec/is/sf",
    "ksp/pc/impls/bddc",
    "ksp/pc/impls/patch",
]
LIGHT += ["dm/dt", "dm/field", "dm/interface", "dm/impls/forest", "dm/impls/network"]
LIGHT += ["dm/impls/plex", "dm/impls/stag", "dm/impls/swarm"]
# The bindings only call PETSc: -O0 compiles in a third of the time of -O1 and costs some 50 ns a
# call.
GLUE = "-fPIC -O0 -g0 -w -fno-strict-aliasing"

# What MPI needs here: root in a container, more ranks than cores (they yield to each other), one
# BLAS thread a rank.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STATE = ROOT / ".setup"
LOGS = STATE / "logs"
STAMP = STATE / "stamp.json"


class SetupError(Exception):
    """Ends the set-up; its text says what to do."""


# ---- running commands ---------------------------------------------------------------------------

running = set()
# Held by children too: where this process is killed outright, the next one waits for what they
# still do.
locks = []
stopping = threading.Event()
screen = threading.Lock()


def say(text):
    with screen:
        print(text, flush=True)


def clock(seconds):
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{int(seconds // 60)} min {int(seconds % 60)} s"
    )


@contextlib.contextmanager
def stage(doing):
    """One line when the stage has ended: what it did and how long it took."""
    start = time.monotonic()
    yield
    say(f"  {doing:<62} {clock(time.monotonic() - start):>12}")


def run(log, command, cwd=None, **variables):
    """Runs a command, its output appended to the stage's log; raises with the end of the log where
    it fails."""
    path = LOGS / f"{log}.log"
    with open(path, "a") as out:
        print(f"$ {shlex.join(map(str, command))}", file=out, flush=True)
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, "MAKEFLAGS": "", "MFLAGS": "", **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=locks,
        )
        running.add(process)
        if stopping.is_set():
            stop_all()
        code = process.wait()
        running.discard(process)
    if code and stopping.is_set():
        raise SetupError("stopped")
    if code:
        tail = "\n".join(path.read_text(errors="replace").splitlines()[-25:])
        raise SetupError(
            f"{tail}\n\n{command[0]} failed (exit {code}); the whole log: {path}"
        )


def stop_all():
    """Ends what still runs, with its children; a half-done make is continued by the next set-up."""
    stopping.set()
    for process in list(running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def together(*tasks):
    """Runs functions side by side; the first failure ends the others and is the one raised."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            failed = [future.exception() for future in done if future.exception()]
        except BaseException:
            stop_all()
            raise
        if failed:
            stop_all()
            raise failed[0]


def output(*command):
    """What a command prints, or an empty string where it is missing or fails."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def pip(log, *arguments, **variables):
    run(
        log,
        [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments],
        **variables,
    )


# ---- the system ---------------------------------------------------------------------------------


def links_blas():
    """Whether a C program links against OpenBLAS (which needs a compiler and the C library's
    headers, too)."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(
            "#include <stdio.h>\nint dgemm_();\nint main(void) { dgemm_(); return 0; }\n"
        )
        command = ["gcc", source, "-o", Path(folder, "probe"), "-lopenblas"]
        return subprocess.run(command, capture_output=True).returncode == 0


def missing_packages():
    """Debian's names of the system packages that the set-up lacks."""
    here = f"python3.{sys.version_info.minor}"
    needs = {
        "libopenmpi-dev": shutil.which("mpicc"),
        "openmpi-bin": shutil.which("mpirun"),
        f"{here}-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
        f"{here}-venv": importlib.util.find_spec("ensurepip"),
    }
    if not os.environ.get("PETSC_DIR"):
        needs["gcc"] = shutil.which("gcc")
        needs["make"] = shutil.which("make")
        needs["libc6-dev"] = needs["libopenblas-dev"] = needs["gcc"] and links_blas()
    return [name for name, found in needs.items() if not found]


def system_packages():
    missing = missing_packages()
    if not missing:
        return
    names = " ".join(missing)
    by_hand = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
    if not shutil.which("apt-get"):
        raise SetupError(f"missing on this system (by their Debian names): {names}")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and not (
        shutil.which("sudo")
        and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0
    ):
        raise SetupError(
            f"system packages are missing and need root to install:\n\n    {by_hand}\n"
        )
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    with stage(f"system packages: {names}"):
        run("system", [*apt, "update"])
        run("system", [*apt, "install", "-y", "--no-install-recommends", *missing])
    importlib.invalidate_caches()
    still = missing_packages()
    if still:
        raise SetupError(
            f"still missing after installing: {' '.join(still)}; see {LOGS}/system.log"
        )


# ---- what is built, and where it is kept --------------------------------------------------------


def processor():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()


def digest(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


class Build:
    """Names and places of one PETSc and the wheels that belong to it."""

    def __init__(self):
        default = Path(
            os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "npde_opt"
        )
        cache = Path(os.environ.get("NPDE_CACHE") or default).resolve()
        given = os.environ.get("PETSC_DIR")
        self.own = not given
        if self.own:
            compiler = (
                output("gcc", "--version"),
                output("mpicc", "-show"),
                output("mpirun", "--version"),
            )
            self.key = digest(
                PETSC_VERSION, CONFIGURE, LIGHT, GLUE, *compiler, processor()
            )
            self.folder = cache / f"petsc-{PETSC_VERSION}-{self.key}"
            self.petsc_dir, self.petsc_arch = (
                self.folder / f"petsc-{PETSC_VERSION}",
                ARCH,
            )
            self.version, self.mpicc = PETSC_VERSION, "mpicc"
        else:
            self.petsc_dir, self.petsc_arch = (
                Path(given).resolve(),
                os.environ.get("PETSC_ARCH", ""),
            )
            self.version, self.mpicc, conf = self.examine()
            self.key = digest(
                self.petsc_dir,
                self.petsc_arch,
                self.version,
                GLUE,
                conf,
                output(self.mpicc, "-show"),
            )
            self.folder = cache / f"petsc4py-{self.version}-{self.key}"
        python = f"{sys.implementation.cache_tag}-{digest(sys.base_prefix, sys.version)}-numpy2"
        self.wheels = self.folder / f"wheels-{python}"
        self.bindings = self.folder / f"bindings-{python}"

    def examine(self):
        """Version, compiler and configuration of the PETSc that the user named."""
        conf = (
            self.petsc_dir
            / self.petsc_arch
            / "lib"
            / "petsc"
            / "conf"
            / "petscvariables"
        )
        header = self.petsc_dir / "include" / "petscversion.h"
        for path in (header, conf):
            if not path.is_file():
                raise SetupError(
                    f"PETSC_DIR={self.petsc_dir} PETSC_ARCH={self.petsc_arch} is no built PETSc: "
                    f"{path} is missing.\n"
                    "Correct them, or unset both and the set-up builds its own PETSc."
                )
        numbers = dict(
            re.findall(
                r"#define\s+PETSC_VERSION_(MAJOR|MINOR|SUBMINOR)\s+(\d+)",
                header.read_text(),
            )
        )
        version = "{MAJOR}.{MINOR}.{SUBMINOR}".format(**numbers)
        if version.split(".")[:2] != PETSC_VERSION.split(".")[:2]:
            say(
                f"  note: npde_opt is tested with PETSc {PETSC_VERSION}; PETSC_DIR has {version}"
            )
        text = conf.read_text()
        compiler = re.search(r"^PCC\s*=\s*(\S+)", text, re.MULTILINE)
        return version, compiler.group(1) if compiler else "mpicc", text

    def environment(self):
        return {"PETSC_DIR": str(self.petsc_dir), "PETSC_ARCH": self.petsc_arch}

    def done(self, name):
        return (self.folder / f"{name}.done").exists()

    def mark(self, name):
        (self.folder / f"{name}.done").touch()


@contextlib.contextmanager
def alone(build):
    """One set-up at a time builds into a cache folder; a second waits and then finds the work
    done."""
    build.folder.mkdir(parents=True, exist_ok=True)
    with open(build.folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  another set-up is building in {build.folder}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        locks.append(lock.fileno())
        yield
        locks.clear()


def unpack(log, build, requirement, folder):
    """Downloads a source package through pip and unpacks it as `folder`, which appears only when
    complete."""
    if folder.exists():
        return
    with tempfile.TemporaryDirectory(dir=build.folder) as scratch:
        name = requirement.split("==")[0]
        pip(
            log,
            "download",
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            name,
            "--dest",
            scratch,
            requirement,
        )
        archive = next(Path(scratch).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data") if hasattr(
                tarfile, "data_filter"
            ) else tar.extractall(scratch)
        os.replace(
            next(path for path in Path(scratch).iterdir() if path.is_dir()), folder
        )


def configure(build):
    if not build.own or build.done("petsc") or build.done("configure"):
        return
    with stage("PETSc: download, unpack, configure"):
        unpack("petsc-source", build, f"petsc=={PETSC_VERSION}", build.petsc_dir)
        shutil.rmtree(build.petsc_dir / ARCH, ignore_errors=True)
        run(
            "petsc-configure",
            [PYTHON, "configure", *CONFIGURE],
            cwd=build.petsc_dir,
            **build.environment(),
        )
        build.mark("configure")


def make_petsc(build):
    if not build.own or build.done("petsc"):
        return
    cores = len(os.sched_getaffinity(0))
    say(
        f"  compiling PETSc on {cores} cores; progress: tail -f "
        f"{(LOGS / 'petsc-make.log').relative_to(ROOT)}"
    )
    light = " ".join(f"{ARCH}/obj/src/{part}/%" for part in LIGHT)
    command = [
        "make",
        "-f",
        "gmakefile",
        f"-j{cores}",
        "libs",
        f"--eval={light}: CFLAGS += -O1",
    ]
    with stage("PETSc: compile"):
        run("petsc-make", command, cwd=build.petsc_dir, **build.environment())
        shutil.rmtree(build.petsc_dir / ARCH / "obj")
        build.mark("petsc")


def cythonize(build):
    """petsc4py's C source, which needs no PETSc: written beside configure."""
    if has_wheel(build, "petsc4py") or (build.bindings / "cython.done").exists():
        return
    exact = (
        f"petsc4py=={PETSC_VERSION}"
        if build.own
        else f"petsc4py=={build.version.rpartition('.')[0]}.*"
    )
    with stage("petsc4py: download, translate to C"):
        unpack("petsc4py-source", build, exact, build.bindings)
        (build.bindings / "src" / "petsc4py" / "PETSc.c").unlink(missing_ok=True)
        run("petsc4py-cython", [PYTHON, "conf/cythonize.py"], cwd=build.bindings)
        (build.bindings / "cython.done").touch()


def has_wheel(build, name):
    return next(build.wheels.glob(f"{name}-*.whl"), None)


def build_wheel(build, name, source, *arguments, **variables):
    """Builds a wheel that lands in the cache only when complete."""
    if has_wheel(build, name):
        return
    build.wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build.folder) as scratch:
        pip(
            name,
            "wheel",
            "--no-deps",
            "--no-cache-dir",
            "--wheel-dir",
            scratch,
            *arguments,
            source,
            **variables,
        )
        wheel = next(Path(scratch).glob("*.whl"))
        os.replace(wheel, build.wheels / wheel.name)


def wheel_petsc4py(build):
    """Compiles beside PETSc's own make: only the link needs the library, so the linker waits for
    it."""
    if has_wheel(build, "petsc4py"):
        return
    link = build.mpicc
    if build.own:
        waiting = build.folder / "link-when-built"
        done = f"[ -e '{build.folder}/petsc.done' ]"
        until = f"until {done}; do kill -0 {os.getpid()} || exit 1; sleep 0.5; done"
        waiting.write_text(f'{until}\nexec mpicc "$@"\n')
        link = f"sh '{waiting}'"
    flags = {"PCCFLAGS": GLUE, "CFLAGS": GLUE, "PLD": link}
    with stage("petsc4py: compile, link once PETSc is there"):
        build_wheel(
            build,
            "petsc4py",
            build.bindings,
            "--no-build-isolation",
            **flags,
            **build.environment(),
        )
        shutil.rmtree(build.bindings)


def wheel_mpi4py(build):
    if has_wheel(build, "mpi4py"):
        return
    with stage("mpi4py: compile"):
        build_wheel(
            build,
            "mpi4py",
            "mpi4py>=4",
            "--no-binary=mpi4py",
            MPICC=build.mpicc,
            CFLAGS="-O0 -g0",
        )


# ---- the virtual environment --------------------------------------------------------------------


def create_venv():
    version = "import sys, pip; print(sys.version)"
    activate = VENV / "bin" / "activate"
    works = output(str(PYTHON), "-c", version).strip() == sys.version.strip()
    if works and activate.exists() and str(VENV) in activate.read_text():
        return
    with stage(f".venv with Python {platform.python_version()}"):
        run("venv", [sys._base_executable, "-m", "venv", "--clear", VENV])


def tools():
    with stage("build tools and numpy"):
        pip(
            "packages",
            "install",
            "--upgrade",
            "setuptools>=77",
            "wheel",
            "cython>=3",
            "numpy>=2",
        )


def packages():
    """The requirements of setup.cfg, but for those built here; every one of them is a ready
    wheel."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"]]
    lists += [
        config["options.extras_require"][extra]
        for extra in ("plot", "examples", "learning", "test")
    ]
    wanted = [line for text in lists for line in text.split("\n") if line]
    wanted = [line for line in wanted if not line.startswith(("petsc4py", "mpi4py"))]
    # These are here for the data they bring, which others read: what they import (pandas, networkx)
    # stays out.
    bringing = ("aeon", "nilearn", "scikit-image", "scikit-learn", "statsmodels")
    data = [line for line in wanted if line.startswith(bringing)]
    with stage("Python packages"):
        # mpi-pytest would bring an mpi4py of its own, replaced below by the one of this MPI
        pip("packages", "install", *[line for line in wanted if line not in data])
        pip("packages", "install", "--no-deps", *data)


def install(build):
    with stage("install petsc4py, mpi4py and npde_opt into .venv"):
        wheels = [has_wheel(build, name) for name in ("petsc4py", "mpi4py")]
        pip("install", "install", "--no-deps", "--force-reinstall", *wheels)
        pip(
            "install",
            "install",
            "--no-deps",
            "--no-build-isolation",
            "--editable",
            ROOT,
        )
        write_environment(build)
        run(
            "install",
            [PYTHON, "-c", "from petsc4py import PETSc; print(PETSc.Sys.getVersion())"],
            **ENVIRONMENT,
        )


def write_environment(build):
    """`source .venv/bin/activate` also sets what MPI needs here; a value the user has set stays."""
    activate = VENV / "bin" / "activate"
    mark = "# npde_opt: "
    head = activate.read_text().partition(mark)[0]
    mpi = build.petsc_dir / build.petsc_arch / "bin"
    path = [f'export PATH="{mpi}:$PATH"\n'] if (mpi / "mpirun").exists() else []
    lines = [
        f'export {name}="${{{name}:-{value}}}"\n' for name, value in ENVIRONMENT.items()
    ]
    path.append(f'export PATH="{ROOT / "scripts" / "bin"}:$PATH"\n')  # see its mpirun
    activate.write_text(head + mark + "MPI and BLAS\n" + "".join(path + lines))


# ---- all together -------------------------------------------------------------------------------


def inputs():
    """A fingerprint of everything that the result depends on."""
    files = [
        (ROOT / name).read_bytes()
        for name in ("setup.cfg", "pyproject.toml", "scripts/bootstrap.py")
    ]
    return digest(ROOT, sys.version, sys.base_prefix, *files)


def is_done(build):
    if not STAMP.exists() or not PYTHON.exists():
        return False
    stamp = json.loads(STAMP.read_text())
    return (
        stamp == {"inputs": inputs(), "build": build.key}
        and (build.petsc_dir / build.petsc_arch).is_dir()
    )


def set_up():
    LOGS.mkdir(parents=True, exist_ok=True)
    if not missing_packages():
        build = Build()
        if is_done(build):
            return
    STAMP.unlink(missing_ok=True)
    start = time.monotonic()
    for log in LOGS.glob("*.log"):
        log.unlink()
    say(f"setting up {VENV}; logs in {LOGS}")
    system_packages()
    build = Build()
    create_venv()
    tools()
    with alone(build):
        say(f"  built parts are kept in {build.folder}")
        together(lambda: configure(build), lambda: (cythonize(build), packages()))
        together(
            lambda: make_petsc(build),
            lambda: wheel_petsc4py(build),
            lambda: wheel_mpi4py(build),
        )
    install(build)
    STAMP.write_text(json.dumps({"inputs": inputs(), "build": build.key}))
    say(
        f"ready in {clock(time.monotonic() - start)}: source .venv/bin/activate, then python -m "
        "npde_opt doctor"
    )


def main():
    if sys.version_info < (3, 11):  # noqa: UP036 (this is where an older Python is told)
        sys.exit(
            f"npde_opt needs Python >= 3.11; this is {platform.python_version()} (make "
            "PYTHON=python3.12 ...)"
        )
    if os.environ.get("PETSC_DIR"):  # a PETSc that brought its own MPI keeps it here
        own = Path(os.environ["PETSC_DIR"], os.environ.get("PETSC_ARCH", ""), "bin")
        os.environ["PATH"] = f"{own}:{os.environ['PATH']}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        set_up()
    except KeyboardInterrupt:
        stop_all()
        sys.exit("\nset-up interrupted; the next run continues it")
    except SetupError as error:
        sys.exit(f"set-up failed: {error}")


if __name__ == "__main__":
    main()
