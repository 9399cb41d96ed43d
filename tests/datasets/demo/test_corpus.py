from src.datasets.demo.corpus import DemoSpeech
from src.text_encoder.characters import CharacterEncoder


def test_splits_have_different_speakers(corpus):
    speakers = {}
    for split in ("train", "val", "test"):
        dataset = DemoSpeech(split, str(corpus), text_encoder=CharacterEncoder())
        assert dataset.has_targets
        speakers[split] = {dataset[i]["speaker"] for i in range(len(dataset))}
    assert all(speakers.values())
    assert len(set.union(*speakers.values())) == sum(len(names) for names in speakers.values())
