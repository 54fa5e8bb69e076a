"""The world of sound: synthetic and recorded speech, log-mel features, and audio effects."""

from featurewise.worlds.sound.errors import (
    MissingSynthesiserError,
    RecordingError,
    SoundError,
    SynthesiserError,
)
from featurewise.worlds.sound.espeak import Line, Spoken, speak
from featurewise.worlds.sound.features import log_mel, mel_filters, resample
from featurewise.worlds.sound.made import made_speech
from featurewise.worlds.sound.phones import PHONES, frame_phones
from featurewise.worlds.sound.speech import Speech, SpeechBatch, SpeechSource, synthetic_speech
from featurewise.worlds.sound.voices import Voice, voices

__all__ = [
    "PHONES",
    "Line",
    "MissingSynthesiserError",
    "RecordingError",
    "SoundError",
    "Speech",
    "SpeechBatch",
    "SpeechSource",
    "Spoken",
    "SynthesiserError",
    "Voice",
    "frame_phones",
    "log_mel",
    "made_speech",
    "mel_filters",
    "resample",
    "speak",
    "synthetic_speech",
    "voices",
]
