import logging

import torch
from tqdm import tqdm

from src.logger.text_log import setup_logging
from src.utils.plots import curves_figure, save_figure, spectrogram_image, to_array


def test_low_frequencies_are_at_the_bottom():
    spectrogram = torch.zeros(10, 20)
    spectrogram[0] = 1
    image = spectrogram_image(spectrogram)
    assert image.dtype == "uint8" and image.shape[2] == 3
    middle = image[:, image.shape[1] // 2].astype(int)
    bright = (middle[:, 0] > 240) & (middle[:, 1] > 220) & (middle[:, 2] < 80)  # yellow
    assert bright.any() and bright.nonzero()[0].min() > image.shape[0] / 2


def test_curves(tmp_path):
    figure = curves_figure({"loss": {"train": ([0, 1], [3, 2])}, "WER": {}}, "minutes")
    assert to_array(figure).shape == (350, 1000, 3)
    save_figure(figure, tmp_path / "a" / "b.png")
    assert (tmp_path / "a" / "b.png").read_bytes()[:4] == b"\x89PNG"


def test_log_is_written_once(tmp_path, capsys):
    for _ in range(2):
        setup_logging(tmp_path, main_process=True)
    with tqdm(total=1):
        logging.getLogger("x").info("hello")
    assert (tmp_path / "log.txt").read_text().count("hello") == 1
    assert "hello" in capsys.readouterr().err
    setup_logging(tmp_path, main_process=False)
    logging.getLogger("x").info("other process")
    assert "other process" not in (tmp_path / "log.txt").read_text()
