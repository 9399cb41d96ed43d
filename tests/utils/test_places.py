from src.utils.places import absolute_places, without_places

NOISE = "src.transforms.wave.noise.AddNoise"
CONFIG = {
    "name": "a/b",
    "run_dir": "/home/anna/runs/x",
    "threads": 3,
    "device": "cpu",
    "vars": {"key": "secret"},
    "init": {"encoder": {"source": "runs/nest"}},
    "writer": {"_target_": "src.logger.wandb.WandBWriter", "entity": "anna"},
    "trainer": {"monitor": "val/WER", "epochs": 3},
    "datasets": {
        "train": {
            "_target_": "src.datasets.demo.corpus.DemoSpeech",
            "split": "train",
            "folder": "/d/s",
        },
        "test": {"_target_": "src.datasets.manifest_dataset.ManifestDataset", "manifest": "t"},
        "val": {"_target_": "src.datasets.custom_dir.CustomDir", "dir": "C:\\audio"},
        "none": None,
    },
    "transforms": {
        "batch": {
            "train": {
                "noise": {"_target_": NOISE, "manifest": "~/n.jsonl", "p": 0.2},
                "mine": {"_target_": "src.datasets.custom_dir.CustomDir", "dir": ["a/b", "c"]},
            },
            "inference": {},
        },
        "instance": None,
    },
    "task": {"decoders": {"beam": {"language_model": "words.arpa", "beam_size": 10}}},
}


def test_without_places():
    assert without_places(CONFIG) == {
        "name": "a/b",
        "run_dir": None,
        "threads": None,
        "device": "auto",
        "vars": {},
        "init": {},
        "writer": None,
        "trainer": {"monitor": "val/WER", "epochs": 3},
        "datasets": {
            "train": {"_target_": "src.datasets.demo.corpus.DemoSpeech", "split": "train"},
            "test": {
                "_target_": "src.datasets.manifest_dataset.ManifestDataset",
                "manifest": "???",
            },
            "val": {"_target_": "src.datasets.custom_dir.CustomDir", "dir": "???"},
            "none": None,
        },
        "transforms": {
            "batch": {"train": {"noise": {"_target_": NOISE, "p": 0.2}}, "inference": {}},
            "instance": None,
        },
        "task": {"decoders": {"beam": {"language_model": "???", "beam_size": 10}}},
    }


def test_absolute_places():
    places = {"/home/anna/runs/x", "/d/s", "C:\\audio", "~/n.jsonl"}
    assert absolute_places(CONFIG) == places
