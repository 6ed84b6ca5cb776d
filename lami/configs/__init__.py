"""Configuration: the schema and its reading; the presets are the YAML files beside this module."""

from lami.configs.loading import config_names, dump_config, load_config
from lami.configs.schema import Config, DataConfig

__all__ = ["Config", "DataConfig", "config_names", "dump_config", "load_config"]
