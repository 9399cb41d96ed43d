import pytest

from src.text_encoder.normalizer import Normalizer

ENGLISH = {
    "0": "zero",
    "21": "twenty one",
    "1,234,567": "one million two hundred and thirty four thousand five hundred and sixty seven",
    "1,500": "one thousand five hundred",
    "3.14": "three point one four",
    "3.50": "three point five zero",
    "-5 a-5": "minus five a five",
    "1st 2nd 3rd 21st 112TH": "first second third twenty first one hundred and twelfth",
    "1,000th 22,500th": "one thousandth twenty two thousand five hundredth",
    "in 1984, 1905 and 2024": "in nineteen eighty four nineteen oh five and twenty twenty four",
    "2100": "two thousand one hundred",
    "the 1980s, the 90s": "the nineteen eighties the nineties",
    "the 1990's, 22,000s, 1985's": "the nineteen nineties twenty two thousands "
    "nineteen eighty five's",
    "the 80's, room 310's": "the eighties room three hundred and ten's",
    "50%": "fifty percent",
    "3.5 %": "three point five percent",
    "$1": "one dollar",
    "$1984": "one thousand nine hundred and eighty four dollars",
    "$5.50": "five dollars and fifty cents",
    "£1.01": "one pound and one penny",
    "$0.50": "fifty cents",
    "$0.00": "zero dollars",
    "€2.5 million": "two point five million euros",
    "-$5": "minus five dollars",
    "$-5 (-5) (−$5) 3-5 5%-10%": "minus five dollars minus five minus five dollars three five "
    "five percent ten percent",
    "$.50 -$.50 $.5 million": "fifty cents minus fifty cents zero point five million dollars",
    "50% 3 times, 5$ 10, US$-5": "fifty percent three times five dollars ten us five dollars",
    "1984 million": "one thousand nine hundred and eighty four million",
    "5½ 5 ¼ ¾": "five and a half five and a quarter three quarters",
    "5½% $2½ 1½ million": "five point five percent two dollars and a half one and a half million",
    "10² 10⁻³ 5⅓ H₂O": "ten two ten minus three five one three h two o",
    "5$": "five dollars",
    "007": "zero zero seven",
    "1234567890123456": "one two three four five six seven eight nine zero one two three four "
    "five six",
    "B2B": "b two b",
}
RUSSIAN = {
    "21": "двадцать один",
    "1984": "одна тысяча девятьсот восемьдесят четыре",
    "3,14": "три целых четырнадцать сотых",
    "1.5": "одна целая пять десятых",
    "0,1234567": "ноль запятая один два три четыре пять шесть семь",
    "-5": "минус пять",
    "1-й 2-го 5-ая 3-е 5-му 40-м": "первый второго пятая третье пятому сороковом",
    "5-ти": "пять ти",
    "1 ₽, 2 ₽, 5₽": "один рубль два рубля пять рублей",
    "11 ₽, 21 ₽, 112 ₽": "одиннадцать рублей двадцать один рубль сто двенадцать рублей",
    "1,5 ₽": "одна целая пять десятых рубля",
    "1%, 3 %, 50%": "один процент три процента пятьдесят процентов",
    "$5 миллионов": "пять миллионов долларов",
    "2,5 млн ₽, 1 млрд ₽, 2 тыс. ₽": "две целых пять десятых миллиона рублей "
    "один миллиард рублей две тысячи рублей",
    "5 млн. человек, 21 тыс": "пять миллионов человек двадцать одна тысяча",
    "$2 трлн, 2 тысячи": "два триллиона долларов две тысячи",
    "100 000 человек": "сто тысяч человек",
    "1 234 567": "один миллион двести тридцать четыре тысячи пятьсот шестьдесят семь",
    "8 800 555 35 35": "восемь восемьсот пятьсот пятьдесят пять тридцать пять тридцать пять",
    "5½ 2¼ 3¾ ½": "пять с половиной два с четвертью три и три четверти половина",
    "5½%": "пять целых пять десятых процента",
}


@pytest.mark.parametrize(("text", "wanted"), ENGLISH.items())
def test_english(text, wanted):
    assert Normalizer("en")(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), RUSSIAN.items())
def test_russian(text, wanted):
    assert Normalizer("ru")(text) == wanted
