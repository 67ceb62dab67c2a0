"""The package as a whole: who imports whom, what an import costs, what it needs, and how kernels are written."""

from __future__ import annotations

import ast
import builtins
import os
import re
import shutil
import statistics
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import python

import nmfcore

ROOT = Path(nmfcore.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Who may import whom: a room (a folder, or a file beside them) imports from the layers before its own, and from rooms
# of its own layer where no circle comes of it. Names of nmfcore.ratings that stand in nmfcore.recommender are the only
# reference upward, by its module `__getattr__`.
LAYERS = [
    {"_types", "_version"},
    {"machine"},
    {"_arguments", "_parallel", "ratings", "reference"},
    {"kernels", "datasets"},
    {"data"},
    {"losses", "reading"},
    {"loop", "solvers"},
    {"starts"},
    {"holdout"},
    {"api"},
    {"plot"},
    {"model_selection"},
    {"recommender"},
    {"_warmup", "metrics"},
    {"cli"},
    {"__main__"},
]
CORE = ("data", "loop", "losses", "solvers", "starts")  # where types decide on behaviour, and nothing asks for them


def room(path: Path) -> str:
    """The name of a top-level module, or of the folder a file stands in."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            parts = (node.module or "").split(".")
            if parts[0] == "nmfcore":
                yield from parts[1:2] or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "nmfcore" and parts[1:]:
                    yield parts[1]


# ---- imports ------------------------------------------------------------------------------------------------------


def test_imports_run_one_way():
    height = {name: k for k, layer in enumerate(LAYERS) for name in layer}
    wrong, beside = [], set()
    for path in FILES:
        here = room(path)
        if here == "__init__" or path == ROOT / "ratings" / "__init__.py":
            continue
        assert here in height, f"{path}: state its layer in this test"
        for there in set(imported(path)) - {here}:
            if height[there] > height[here]:
                wrong.append(f"{path.relative_to(ROOT)} imports {there}")
            elif height[there] == height[here]:
                beside.add((here, there))
    assert not wrong
    assert not circles(beside)
    assert (room(ROOT / "loop" / "solve.py"), "data") in {(room(p), t) for p in FILES for t in imported(p)}  # it sees


def circles(arrows: set[tuple[str, str]]) -> list[str]:
    """Names that can be reached from themselves."""
    reached = {a: {b for x, b in arrows if x == a} for a, _ in arrows}
    for _ in reached:
        for ends in reached.values():
            ends |= {b for a in ends for b in reached.get(a, ())}
    return [a for a, ends in reached.items() if a in ends]


@pytest.mark.parametrize("package", ["nmfcore", "benchmarks"])
def test_no_files_import_each_other_in_a_circle(package: str) -> None:
    """Neither directly nor by way of others, when they are loaded."""
    folder = ROOT.parent / package
    names = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in folder.rglob("*.py")}
    names = {path: name.removesuffix(".__init__") for path, name in names.items()}
    arrows = set()
    for path, name in names.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                found = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & set(names.values())
                arrows |= {(name, there) for there in found if there != name}
    arrows = {(a, b) for a, b in arrows if not a.startswith(f"{b}.") and not b.startswith(f"{a}.")}  # a folder's own
    assert len(arrows) > 10
    assert circles(arrows) == []


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in CORE], ids=lambda path: path.name)
def test_no_type_is_asked_for_in_the_core(path: Path) -> None:
    asked = {"hasattr", "getattr", "isinstance", "issubclass"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in asked, f"{path}:{node.lineno} calls {node.func.id}"


def test_the_root_is_small_and_no_module_imports_it() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 12
    for path in FILES:
        if path.parent == ROOT and path.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert "nmfcore" not in [alias.name for alias in node.names], path
            if isinstance(node, ast.ImportFrom) and node.module == "nmfcore":
                modules = {alias.name for alias in node.names} - {"__version__"}
                folders = {p.name.removesuffix(".py") for p in ROOT.iterdir()}
                assert modules <= folders, f"{path} imports {modules - folders} from nmfcore itself"


def test_import_loads_nothing_heavy():
    heavy = ("numba", "llvmlite", "scipy", "sklearn", "pandas", "matplotlib", "tqdm", "zipfile")
    code = f"import sys, nmfcore; print([name for name in {heavy!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_only_what_needs_numba_loads_it():
    code = """
        import sys, nmfcore
        nmfcore.Status, nmfcore.ConvergenceWarning, nmfcore.Factorization, nmfcore.load, nmfcore.reference
        print("numba" in sys.modules)
        nmfcore.factorize
        print("numba" in sys.modules, "sklearn" in sys.modules, "pandas" in sys.modules, "matplotlib" in sys.modules)
    """
    assert python(code).split() == [
        "False",
        "True",
        "False",
        "False",
        "False",
    ]  # numba itself loads scipy if it is there


def test_import_costs_little_more_than_numpy():
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"

    def ratio() -> float:
        seconds: dict[str, list[float]] = {"numpy": [], "nmfcore": []}
        for _ in range(9):
            for name, times in seconds.items():  # in turns, so that both meet the same machine
                times.append(float(python(code.format(name))))
        return statistics.median(seconds["nmfcore"]) / statistics.median(seconds["numpy"])

    assert ratio() <= 1.5 or ratio() <= 1.5


def test_public_names():
    assert sorted(nmfcore.__all__) == nmfcore.__all__
    assert set(nmfcore.__all__) >= {"ConvergenceWarning", "Factorization", "Status", "factorize", "load", "solvers"}
    for name in nmfcore.__all__:
        assert getattr(nmfcore, name) is not None
        assert name in dir(nmfcore)
    assert python("from nmfcore import *; print(callable(factorize))").strip() == "True"
    for module in (nmfcore.solvers, nmfcore.ratings):
        for name in module.__all__:
            assert hasattr(module, name)


@pytest.mark.parametrize(
    "before",
    [
        "import nmfcore.api.factorize",
        "from nmfcore.api.factorize import State",
        "nmfcore.load(path).transform([[1.0, 2.0]])",
    ],
)
def test_names_are_what_they_are_whatever_was_used_before(before, tmp_path):
    """A module that bears the name of a public function hides it once something imports the module first."""
    path = tmp_path / "model.npz"
    nmfcore.factorize([[1.0, 2.0], [2.0, 4.0]], 1, random_state=0).save(path)
    code = f"import nmfcore; path = {str(path)!r}; {before}; print(nmfcore.factorize([[1.0]], 1, random_state=0).rank)"
    assert python(code).strip() == "1"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"module 'nmfcore' has no attribute 'NMF'; it has .*factorize, "):
        _ = nmfcore.NMF
    assert not hasattr(nmfcore, "factorise")


def test_version_and_types():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", nmfcore.__version__)
    assert (ROOT / "py.typed").exists()


# ---- kernels ------------------------------------------------------------------------------------------------------


def kernels(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any("kernel" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


WITH_KERNELS = [path for path in FILES if kernels(path)]


VECTOR_FILES = ("gathered.py", "ir.py", "lines.py", "products.py", "sweeps.py")


def test_only_one_file_configures_the_compiler():
    names = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc", "prange"}
    for path in FILES:
        if path in (ROOT / "kernels" / "_jit.py", ROOT / "kernels" / "_cache.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or ""
                found = {module.split(".")[0], *(alias.name.split(".")[0] for alias in node.names)}
                assert not found & names, f"{path} imports {found}"
                assert "numba" not in found or path.name in VECTOR_FILES, f"{path} imports {found}"


def test_the_compiler_may_reassociate_but_must_honour_nan():
    from numba.core.registry import CPUDispatcher

    from nmfcore.kernels import dense

    options = dense.rows_times.targetoptions
    assert isinstance(dense.rows_times, CPUDispatcher)
    assert options["fastmath"] == {"reassoc", "contract"}
    assert options["nogil"] is True
    assert options["error_model"] == "numpy"
    assert not options.get("parallel", False)


# Code of VECTOR_FILES; kernels/vectors/ir.py says what that costs.
VECTORS = {"EIGHT", "LANES", "add_lines", "copy_lines", "dot_lines", "outer_lines"}
VECTORS |= {"add_four_steps", "add_step", "into_tile", "move_four", "move_one", "out_of_tile"}
VECTORS |= {"CACHE_LINE", "HEIGHT", "LINE", "columns_panel", "columns_panel_low", "rows_panel", "rows_panel_narrow"}
VECTORS |= {"add_gathered", "prefetch", "prefetch_entries"}
VECTORS |= {"add_outer", "add_outer_narrow", "add_rows", "errors", "subtract_dots", "sweep_lanes", "transpose_square"}


@pytest.mark.parametrize("path", WITH_KERNELS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_kernel_knows_only_its_own_file(path):
    """And the vectors in its folder: the cache on disk sees edits of these alone, so that must be all it depends on."""
    own = kernels(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant | ast.UnaryOp)
    }
    for name, function in own.items():
        body = ast.Module(function.body, [])
        stored = {n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        known = stored | {a.arg for a in function.args.args} | constants | set(own) | {"np"} | set(dir(builtins))
        known |= VECTORS
        used = {n.id for n in ast.walk(body) if isinstance(n, ast.Name)}
        assert used <= known, f"{name} reads {sorted(used - known)}"
        for node in ast.walk(body):
            assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)), f"{name} uses @"
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("np."):
                assert node.attr not in {"dot", "linalg", "vdot"}, f"{name} uses np.{node.attr}, which needs SciPy"


def test_kernels_are_found():
    assert {path.name for path in WITH_KERNELS} >= {"dense.py", "sparse.py", "observed.py", "hals.py", "mu.py"}


# ---- what it runs on ----------------------------------------------------------------------------------------------

CORE = """
    import numpy as np, nmfcore

    class CSR:
        format, shape = "csr", (3, 4)
        indptr, indices, data = np.array([0, 1, 3, 4]), np.array([1, 0, 3, 2]), np.array([1.0, 2.0, 3.0, 4.0])
        def tocsr(self): return self

    X = np.zeros((3, 4))
    X[[0, 1, 1, 2], [1, 0, 3, 2]] = CSR.data
    options = dict(random_state=0, tol=0, max_iter=5)
    dense, duck = (nmfcore.factorize(A, 2, **options) for A in (X, CSR()))
    assert np.allclose(dense.reconstruct(), duck.reconstruct(), rtol=1e-10)
    zeros, unstored = nmfcore.factorize(X, 2, missing_values=0, **options), nmfcore.factorize(
        CSR(), 2, missing_values="unstored", **options)
    assert np.array_equal(zeros.W, unstored.W)
    assert np.allclose(duck.transform(CSR()), duck.transform(X), rtol=1e-10)
    print("fitted")
"""

BLOCKED = """
    import sys

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("scipy", "pandas", "sklearn", "matplotlib", "tqdm"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Absent())
"""


def test_numpy_and_numba_are_all_it_needs(tmp_path):
    code = textwrap.dedent(BLOCKED) + textwrap.dedent(CORE)
    code += textwrap.dedent(f"""
        path = {str(tmp_path / "model.npz")!r}
        dense.save(path)
        assert np.array_equal(nmfcore.load(path).W, dense.W)
        for init in ("nndsvd", "nndsvda", "nndsvdar"):
            nmfcore.factorize(X, 2, init=init, **options)
        try:
            nmfcore.factorize(X, 2, progress=True)
        except ImportError as error:
            assert "pip install tqdm" in str(error)
            print("told")
    """)
    assert python(code).split() == ["fitted", "told"]


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "false"])
def test_without_a_cache(value):
    code = CORE + "    from nmfcore.kernels import dense\n    print(type(dense.rows_times._cache).__name__)\n"
    assert python(code, NMFCORE_CACHE=value).split() == ["fitted", "NullCache"]


def test_the_cache_is_used_where_it_can_be():
    from nmfcore.kernels import dense

    if os.environ.get("NMFCORE_CACHE", "1") == "1":
        assert type(dense.rows_times._cache).__module__ == "nmfcore.kernels._cache"


@pytest.mark.slow
def test_where_nothing_can_be_written():
    """Numba finds no folder for its cache: that must cost time, not the import."""
    code = """
        import numba.core.caching as caching
        (getattr(caching, "CacheImpl", None) or caching._CacheImpl)._locator_classes = []
    """
    code = textwrap.dedent(code) + textwrap.dedent(CORE)
    code += "from nmfcore.kernels import dense\nprint(type(dense.rows_times._cache).__name__)\n"
    assert python(code).split() == ["fitted", "NullCache"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_installation_without_a_home(tmp_path):
    copy = tmp_path / "site" / "nmfcore"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    try:
        for folder in folders:
            folder.chmod(0o555)
        environment = {"PYTHONPATH": str(copy.parent), "HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"}
        code = CORE + "    print(nmfcore.__file__)\n"
        fitted, file = python(code, cwd=copy.parent, NUMBA_CACHE_DIR="", **environment).split()
        assert (fitted, Path(file).parent) == ("fitted", copy)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_numba_that_does_not_import_is_named_with_the_remedy():
    code = """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name == "numba":
                    raise ImportError("Numba needs NumPy 2.5 or less. Got NumPy 2.6.")

        sys.meta_path.insert(0, Absent())
        import nmfcore
        try:
            nmfcore.factorize
        except ImportError as error:
            print(error)
    """
    message = python(code)
    assert "Got NumPy 2.6" in message
    assert "python -m pip install --upgrade numba" in message


WARM = """
    import importlib, pkgutil, time, sys
    import numpy as np, scipy.sparse as sp
    import nmfcore
    from numba.core.registry import CPUDispatcher

    def compiled():
        modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(nmfcore.__path__, "nmfcore.")
                   if not m.name.endswith("__main__")]
        return {(m.__name__, k): len(v.signatures) for m in modules for k, v in vars(m).items()
                if isinstance(v, CPUDispatcher)}

    nmfcore.warmup()
    before = compiled()
    assert sum(before.values()) > 30
    X = np.random.default_rng(0).random((50, 40)) + 0.1
    holes = sp.csr_array(X * (X > 0.5))
    for dtype in ("float32", "float64"):
        for loss in ("frobenius", "kullback-leibler", "itakura-saito", 1.5):
            for solver in ("auto", "mu"):
                for init in ("auto", "nndsvda"):
                    for Z in (X, X.T, sp.csr_array(X), holes):
                        options = {"missing_values": "unstored"} if Z is holes else {}
                        f = nmfcore.factorize(Z, 3, loss=loss, solver=solver, init=init, dtype=dtype, random_state=0,
                                              tol=0, max_iter=6, l1=0.01, l2=0.01, **options)
            f.transform(holes)
    f = nmfcore.factorize(np.outer(np.arange(40.0), np.arange(1, 31.0)), 1, random_state=0)
    ratings = nmfcore.datasets.planted_ratings(60, 50, 900)
    for offsets in (True, False):
        model = nmfcore.Recommender(rank=3, offsets=offsets, random_state=0).fit(ratings)
        model.recommend(1), model.recommend(items=[1, 2, 3]), model.fold_in({1: 5}).recommend("new")
        nmfcore.evaluate(model, ratings)
    print([name for name, count in compiled().items() if count != before[name]])
"""


@pytest.mark.slow
def test_after_a_warmup_nothing_is_compiled():
    assert python(WARM).strip() == "[]"


def test_warmup_of_one_kind():
    code = """
        import nmfcore
        nmfcore.warmup(dtype="float32", loss="frobenius")
        from nmfcore.kernels import dense, divergence, ranking
        print([str(s[0].dtype) for s in dense.rows_times.signatures], len(divergence.newton_rows.signatures))
        print(len(ranking.best_items.signatures))
    """
    assert python(code).split("\n")[:2] == ["['float32'] 0", "1"]
    assert python(code.replace("frobenius", "itakura-saito")).split("\n")[1] == "0"
    with pytest.raises(ValueError, match="dtype='float16' must be float32 or float64"):
        nmfcore.warmup(dtype="float16")
    with pytest.raises(ValueError, match="loss='huber' is not one of"):
        nmfcore.warmup(loss="huber")
