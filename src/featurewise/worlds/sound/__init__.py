"""The world of sound: synthetic and recorded speech, log-mel features, and audio effects."""

from featurewise.worlds.sound.errors import (
    MissingSynthesiserError,
    RecordingError,
    SoundError,
    SynthesiserError,
)
from featurewise.worlds.sound.espeak import Line, Spoken, speak
from featurewise.worlds.sound.features import log_mel, mel_filters, pitch, resample
from featurewise.worlds.sound.made import made_speech
from featurewise.worlds.sound.phones import PHONES, frame_phones
from featurewise.worlds.sound.speech import (
    Speech,
    SpeechBatch,
    SpeechSource,
    Utterances,
    synthetic_speech,
)
from featurewise.worlds.sound.voices import Voice, voices
from featurewise.worlds.sound.waves import (
    WaveBatch,
    Waves,
    digit_waves,
    made_waves,
    synthetic_waves,
    to_levels,
    to_samples,
)

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
    "Utterances",
    "Voice",
    "WaveBatch",
    "Waves",
    "digit_waves",
    "frame_phones",
    "log_mel",
    "made_speech",
    "made_waves",
    "mel_filters",
    "pitch",
    "resample",
    "speak",
    "synthetic_speech",
    "synthetic_waves",
    "to_levels",
    "to_samples",
    "voices",
]
