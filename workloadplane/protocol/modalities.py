"""What a model can be given: the words that a ModelVersion declares and a gateway checks requests against."""

TEXT, IMAGE, AUDIO, VIDEO = MODALITIES = ("text", "image", "audio", "video")
