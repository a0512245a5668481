"""No code from data: attempts to have this package run what a file says. Each leaves a mark where it succeeds."""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from astropy.table import Table
from safetensors.torch import save

from rsca_torch import RSCA
from rsca_torch.cli.main import main
from rsca_torch.comparison.embedding_file import read_embedding
from rsca_torch.errors import InputError
from rsca_torch.evaluation.fold_files import FoldFiles
from rsca_torch.learners.trust import is_trusted, require_trusted
from rsca_torch.ppca.lightning import LightningEM, restore
from rsca_torch.survey.described.description import Description
from rsca_torch.survey.described.parts import Source, StarTable
from rsca_torch.survey.described.star_file import opened
from rsca_torch.survey.described.star_tables import StarColumns
from rsca_torch.survey.element_windows import read_windows
from rsca_torch.survey.fits_files import UnusableFileError
from rsca_torch.survey.list_formats import read_columns
from rsca_torch.survey.store import Store

PACKAGE = Path(sys.modules["rsca_torch"].__file__).parent
FORBIDDEN = {
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "urllib.Request",
    "pickle.find_class",
}


class Payload:
    """Pickled, it writes a mark when it is read."""

    def __reduce__(self):
        return Path.write_text, (Path("mark"), "ran")


def evil_module():
    """In the working folder, which is where a user stands and may have unpacked a run."""
    Path("evil.py").write_text("from pathlib import Path\nPath('mark').write_text('ran')\nclass Learner: pass\n")
    sys.path.insert(0, str(Path.cwd()))


def results_with(target):
    evil_module()
    content = json.loads(Path(__file__).with_name("results.json").read_text())
    content["config"]["learner"]["_target_"] = target
    Path("run").mkdir()
    Path("run/results.json").write_text(json.dumps(content))


def yaml_in_a_run(place, content):
    results_with("rsca_torch.learners.LDA")
    path = Path("run") / place
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))


CALL = {"_target_": "pathlib.Path.write_text", "_args_": ["mark", "ran"]}
LEARNER = {"_target_": "evil.Learner"}


def model_that_is_a_pickle():
    Path("m.safetensors").write_bytes(pickle.dumps(Payload()))
    RSCA.load("m.safetensors")


def model_of_torch_save():
    torch.save({"weight": Payload()}, "m.safetensors")
    RSCA.load("m.safetensors")


def checkpoint():
    torch.save({"state_dict": {"_extra_state": Payload()}}, "fit.ckpt")
    LightningEM(checkpoint=Path("fit.ckpt"))
    restore(Path("fit.ckpt"), None)


def fold():
    files = FoldFiles(Path("folds"))
    Path("folds").mkdir()
    files._file(("A",)).write_bytes(pickle.dumps(Payload()))
    assert files.get(("A",)) is None


def fold_with_metadata():
    files = FoldFiles(Path("folds"))
    Path("folds").mkdir()
    told = {"fold": "__import__('pathlib').Path('mark').write_text('ran')"}
    files._file(("A",)).write_bytes(save({"siblings": torch.ones(1), "strangers": torch.zeros(1)}, metadata=told))
    assert files.get(("A",)) is None


def store_of_objects():
    Path("store").mkdir()
    np.save("store/flux.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    Path("store/manifest.json").write_text(json.dumps({"schema": 4, "files": {}, "checksum": ""}))
    Store.open("store")


def embedding_of_objects():
    np.savez("z.npz", id=np.array(["a"]), z=np.array([Payload()], dtype=object), allow_pickle=True)
    read_embedding("z.npz")


def embedding_ecsv_of_a_class():
    Path("z.ecsv").write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: string}\n# - {name: z, datatype: float64}\n"
        "# meta: !!omap\n# - __serialized_columns__:\n"
        "#     z: {__class__: evil.Learner, value: !astropy.table.SerializedColumn {name: z}}\n"
        "# schema: astropy-2.0\nid z\na 1.0\n"
    )
    evil_module()
    read_embedding("z.ecsv")


def embedding_ecsv_of_yaml_objects():
    Path("z.ecsv").write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: string}\n"
        "# meta: !!python/object/apply:pathlib.Path.write_text ['mark', 'ran']\n# schema: astropy-2.0\nid\na\n"
    )
    read_embedding("z.ecsv")


def description_of_a_pickle():
    Path("stars.pkl").write_bytes(pickle.dumps(Payload()))
    StarColumns(Path("stars.pkl"), StarTable("stars.pkl", format="pandas.pickle")).read()


def description_of_hdf():
    Path("stars.h5").write_bytes(b"")
    StarColumns(Path("stars.h5"), StarTable("stars.h5", format="pandas.hdf")).read()


def description_of_python():
    Path("d.yaml").write_text("layout: !!python/object/apply:pathlib.Path.write_text [mark, ran]\n")
    Description.of("d.yaml")


def description_of_a_target():
    Path("d.yaml").write_text(
        yaml.safe_dump({"layout": "row_per_star", "spectrum": CALL, "arms": {"a": {"flux": CALL, "wavelength": "w"}}})
    )
    Description.of("d.yaml")


def windows_of_python():
    Path("w.yaml").write_text("Mg: !!python/object/apply:pathlib.Path.write_text [mark, ran]\n")
    read_windows(Path("w.yaml"))


def zarr_of_pickles(dtype="|O", **more):
    Path("rows.zarr/flux").mkdir(parents=True)
    Path("rows.zarr/.zgroup").write_text('{"zarr_format": 2}')
    told = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": dtype, "compressor": None, "fill_value": None}
    given = {**told, "order": "C", "filters": [{"id": "pickle", "protocol": 5}], **more}
    Path("rows.zarr/flux/.zarray").write_text(json.dumps(given))
    Path("rows.zarr/flux/0").write_bytes(pickle.dumps(Payload()))
    with opened(Path("rows.zarr")) as file:
        file.array(Source(None, "flux"), 0)


def zarr_of_numbers_in_pickles():
    zarr_of_pickles("<f8")


def zarr_compressed_as_a_pickle():
    zarr_of_pickles("<f8", filters=None, compressor={"id": "pickle"})


def zarr_of_a_later_format():
    Path("rows.zarr/flux/c").mkdir(parents=True)
    Path("rows.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    named = {"name": "regular", "configuration": {"chunk_shape": [1]}}
    told = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [1],
        "data_type": "float64",
        "chunk_grid": named,
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "attributes": {},
        "codecs": [{"name": "numcodecs.pickle", "configuration": {}}, {"name": "bytes"}],
    }
    Path("rows.zarr/flux/zarr.json").write_text(json.dumps(told))
    Path("rows.zarr/flux/c/0").write_bytes(pickle.dumps(Payload()))
    with opened(Path("rows.zarr")) as file:
        file.array(Source(None, "flux"), 0)


def votable_elsewhere():
    Path("mark_elsewhere").write_text("secret")
    Table({"APOGEE_ID": ["a", "b"]}).write("list.vot", format="votable", tabledata_format="binary")
    text = Path("list.vot").read_text()
    start, end = text.index("<STREAM"), text.index("</STREAM>")
    address = f"file://{Path('mark_elsewhere').absolute()}"
    Path("list.vot").write_text(f'{text[:start]}<STREAM href="{address}">{text[end:]}')
    read_columns(Path("list.vot"), "members", lambda names: (names, ()))


def run_of_a_class():
    results_with("evil.Learner")
    assert main(["cite", "run=run"]) == 0


def report_of_a_class():
    results_with("evil.Learner")
    assert main(["report", "sweep=run", "out=report"]) in (0, 2)


def hub_with_code():
    RSCA.blank().save("m.safetensors")
    Path("hub").mkdir()
    Path("hub/model.safetensors").write_bytes(Path("m.safetensors").read_bytes())
    evil_module()
    Path("hub/modeling.py").write_text(Path("evil.py").read_text())
    Path("hub/config.json").write_text(json.dumps({"schema": 1, "auto_map": {"AutoModel": "modeling.Learner"}, **CALL}))
    from hashlib import sha256

    names = ("model.safetensors", "config.json")
    Path("hub/SHA256SUMS").write_text(
        "".join(f"{sha256(Path('hub', n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    )
    RSCA.load("hub")


def refused(*command):
    assert main(["compare", "store=none", *command]) == 2
    raise InputError("as it should be")


def yaml_of_a_run():
    yaml_in_a_run("conf/learner/nice.yaml", LEARNER)
    refused(f"hydra.searchpath=[file://{Path('run/conf').absolute()}]", "learner=nice")


def yaml_of_a_run_as_config_dir():
    yaml_in_a_run("conf/learner/nice.yaml", LEARNER)
    refused("--config-dir", "run/conf", "learner=nice")


def yaml_of_a_run_in_help():
    yaml_in_a_run("conf/learner/nice.yaml", LEARNER)
    assert main(["compare", "--config-dir", "run/conf", "learner=nice", "--help"]) == 2
    raise InputError("as it should be")


def yaml_of_a_run_by_interpolation():
    yaml_in_a_run("conf/learner/nice.yaml", {"_target_": "${name}", "name": "evil.Learner"})
    refused("--config-dir", "run/conf", "learner=nice")


def yaml_of_a_run_by_call():
    yaml_in_a_run("conf/pairs/nice.yaml", CALL)
    refused("--config-dir=run/conf", "pairs=nice")


def yaml_of_a_run_for_hydra():
    yaml_in_a_run(
        "conf/hydra/job_logging/nice.yaml",
        {"version": 1, "root": {"handlers": ["x"]}, "handlers": {"x": {"()": "evil.Learner"}}},
    )
    refused("--config-dir=run/conf", "hydra/job_logging=nice")


def yaml_of_a_run_with_callbacks():
    yaml_in_a_run(
        "conf/pairs/nice.yaml", "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: evil.Learner}\n"
    )
    refused("-cd", "run/conf", "pairs=nice")


def yaml_of_a_link_to_a_run():
    yaml_in_a_run("conf/learner/nice.yaml", LEARNER)
    Path("innocent").symlink_to(Path("run/conf").absolute())
    refused("--config-dir", "innocent", "learner=nice")


def typed_with_trust_package():
    evil_module()
    refused("trust=package", "learner._target_=evil.Learner")


def rerun_of_a_pickle():
    Path("config.pickle").write_bytes(pickle.dumps(Payload()))
    refused("--experimental-rerun", "config.pickle")


ATTEMPTS = [
    model_that_is_a_pickle,
    model_of_torch_save,
    checkpoint,
    fold,
    fold_with_metadata,
    store_of_objects,
    embedding_of_objects,
    embedding_ecsv_of_a_class,
    embedding_ecsv_of_yaml_objects,
    description_of_a_pickle,
    description_of_hdf,
    description_of_python,
    description_of_a_target,
    windows_of_python,
    zarr_of_pickles,
    zarr_of_numbers_in_pickles,
    zarr_compressed_as_a_pickle,
    zarr_of_a_later_format,
    votable_elsewhere,
    run_of_a_class,
    report_of_a_class,
    hub_with_code,
    yaml_of_a_run,
    yaml_of_a_run_as_config_dir,
    yaml_of_a_run_in_help,
    yaml_of_a_run_by_interpolation,
    yaml_of_a_run_by_call,
    yaml_of_a_run_for_hydra,
    yaml_of_a_run_with_callbacks,
    yaml_of_a_link_to_a_run,
    typed_with_trust_package,
    rerun_of_a_pickle,
]
ENDS_WELL = {fold, fold_with_metadata, run_of_a_class, report_of_a_class, hub_with_code}


def in_a_process(folder, attempt):
    """What was heard of it: "refused" or "ended", and whatever it did that data may not have done."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        heard = []
        os.chdir(folder)

        def hear(event, arguments):
            if event in FORBIDDEN or (
                event == "open" and str(arguments[0]).endswith("mark_elsewhere") and arguments[1] == "rb"
            ):
                heard.append(event)

        sys.addaudithook(hear)
        try:
            attempt()
            told = "ended"
        except (InputError, UnusableFileError):
            told = "refused"
        except BaseException as error:
            told = repr(error)
        os.write(writing, json.dumps([told, heard, Path("mark").exists()]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content)


@pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it")
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.__name__)
def test_no_attempt_runs_code(tmp_path, attempt):
    told, heard, marked = in_a_process(tmp_path, attempt)
    assert not marked, "its code ran"
    assert [event for event in heard if event != "pickle.find_class" or attempt is not model_of_torch_save] == []
    assert told == ("ended" if attempt in ENDS_WELL else "refused")


@pytest.mark.skipif(sys.platform != "linux", reason="forks with threads of torch in it")
def test_a_payload_would_be_heard(tmp_path):
    told, heard, marked = in_a_process(tmp_path, lambda: pickle.loads(pickle.dumps(Payload())))
    assert (told, {*heard}, marked) == ("ended", {"pickle.find_class"}, True)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "builtins.exec",
        "subprocess.run",
        "functools.partial",
        "hydra.utils.call",
        "torch.load",
        "torch.hub.load",
        "torch.serialization.load",
        "torch.os.system",
        "torch.utils.cpp_extension.load",
        "torch.jit.load",
        "torch.nn.Module.eval",
        "torch.nn.functional.relu",
        "torch.package.PackageImporter",
        "torch.nn.init.os",
        "lightning.seed_everything",
        "lightning.pytorch.cli.LightningCLI",
        "lightning.pytorch.loggers.WandbLogger",
        "rsca_torch.cli.main.main",
        "rsca_torch.errors.InputError",
        "rsca_torch.parallel.sent.pickle.loads",
        "rsca_torch.report.reproduction.runpy.run_path",
        "pytorch_metric_learning.utils.common_functions.os",
        "",
        ".",
        "torch",
        "torch..nn.Linear",
        "${x}",
        "nn.Linear",
        "torch.nn._reduction.warnings",
    ],
)
def test_what_is_not_trusted(target):
    assert not is_trusted(target)
    with pytest.raises(InputError, match="trust=any takes it"):
        require_trusted({"deep": [{"in": {"_target_": target}}]}, "somewhere")


@pytest.mark.parametrize(
    "target",
    [
        "rsca_torch.learners.LDA",
        "rsca_torch.learners.ScaledComponents",
        "rsca_torch.ppca.fit.compress",
        "torch.nn.Linear",
        "torch.optim.AdamW",
        "lightning.Trainer",
        "lightning.pytorch.loggers.CSVLogger",
        "pytorch_metric_learning.losses.TripletMarginLoss",
    ],
)
def test_what_is_trusted(target):
    assert is_trusted(target)
    require_trusted({"deep": [{"in": {"_target_": target}}]}, "somewhere")


def test_all_that_ships_is_trusted():
    import hydra

    with hydra.initialize_config_dir(str(PACKAGE.parent / "conf"), version_base="1.3"):
        for command in ("compare", "fit", "ingest", "siblings"):
            require_trusted(json.loads(json.dumps(_plain(hydra.compose(command, ["trust=package"])))), command)


def _plain(config):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config)


def test_trust_any_takes_what_a_run_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    results_with("evil.Learner")
    assert main(["cite", "run=run", "trust=any"]) == 0
    assert Path("mark").exists()
    assert main(["cite", "run=run", "trust=everybody"]) == 2
    assert "trust=everybody: package or any expected" in capsys.readouterr().err


# --- the package's own source ----------------------------------------------------------------------------------------

#: Function -> files that may call it, and why.
CALLS = {
    "eval": (),
    "exec": (),
    "compile": (),
    "__import__": (),
    "system": (),
    "popen": (),
    "Popen": (),
    "read_pickle": (),
    "read_hdf": (),
    "unsafe_load": (),
    "full_load": (),
    "load_module": (),
    "run_path": ("report/reproduction.py",),  # experiments that ship, named by the user
}
#: Module -> files that may import it: pickles go between processes of one run, through pipes of their own.
MODULES = {
    "pickle": ("parallel/sent.py",),
    "cloudpickle": ("parallel/sent.py",),
    "marshal": (),
    "shelve": (),
    "dill": (),
    "joblib": ("parallel/parallel.py", "parallel/workers.py"),
    "subprocess": (),
    "ctypes": ("survey/ingest.py",),
}


def test_the_source_has_no_call_that_runs_data():
    found = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                owner = getattr(getattr(node.func, "value", None), "id", "")
                named = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
                is_method = isinstance(node.func, ast.Attribute) and name in (
                    "eval",
                    "compile",
                )  # of torch's modules, and re
                if name in CALLS and place not in CALLS[name] and not is_method:
                    found.append(f"{place}:{node.lineno} {name}")
                if owner == "torch" and name == "load" and named.get("weights_only") is not True:
                    found.append(f"{place}:{node.lineno} torch.load")
                if owner == "np" and name == "load" and named.get("allow_pickle", False) is not False:
                    found.append(f"{place}:{node.lineno} np.load")
                if owner == "yaml" and name not in ("safe_load", "parse", "compose", "YAMLError"):
                    found.append(f"{place}:{node.lineno} yaml.{name}")
            names = (
                [each.name for each in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            found += [
                f"{place}: {name}" for name in names if place not in MODULES.get(name.partition(".")[0], (place,))
            ]
    assert found == []
