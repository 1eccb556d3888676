"""The API in types, for its description; answers are made of plain dicts, which is faster."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BODY", "Answer", "Asked", "Health", "ProblemDetails", "Result"]


class Asked(BaseModel):
    """Query of ``POST /v1/classify``."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(5, ge=1, le=10_000, description="Labels to give for each image.")
    embedding: bool = Field(False, description="Whether to give the embedding of each image, too.")


class Ranked(BaseModel):
    """A class and its probability, 0 to 1."""

    label: str
    probability: float


class Face(BaseModel):
    """A face of an image and whose it is."""

    box: list[float] = Field(
        description="Left, top, width, height in pixels of the image as it is shown; may reach over its edge."
    )
    label: str = Field(description="The most probable class, or 'unknown'.")
    probability: float = Field(description="That of the most probable class.")
    unknown: bool = Field(description="Whether the face is of none of the classes.")
    score: float | None = Field(None, description="How known the face looks; null without a threshold.")
    top: list[Ranked] = Field(description="The most probable classes, also of an unknown face.")
    embedding: list[float] | None = Field(None, description="Only if asked for.")


class Result(BaseModel):
    """An answer for one image, or its faces, or why there is none."""

    source: str = Field(description="Name of the file; 'body' for a raw body, 'image N' for a part without a name.")
    label: str | None = Field(None, description="The most probable class, or 'unknown'.")
    probability: float | None = Field(None, description="That of the most probable class.")
    unknown: bool | None = Field(None, description="Whether the image is of none of the classes.")
    score: float | None = Field(None, description="How known the image looks; null without a threshold.")
    top: list[Ranked] | None = Field(None, description="The most probable classes, also of an unknown image.")
    embedding: list[float] | None = Field(None, description="Only if asked for.")
    faces: list[Face] | None = Field(
        None,
        description="Of a server that looks for faces, in place of the above: rows from top to bottom; may be empty.",
    )
    error: str | None = Field(None, description="Why there is no answer; then nothing else is given but the source.")
    code: str | None = Field(None, description="The same as a word for programs.")


class Milliseconds(BaseModel):
    """Where the time went; of several images the longest each."""

    read: float = Field(description="Receiving the body.")
    queue: float = Field(description="Waiting for a decoder and for the network.")
    decode: float = Field(description="Decoding and scaling.")
    inference: float = Field(description="The run of the network that the image was in, perhaps with images of others.")
    total: float = Field(description="From the header to the answer.")


class Answer(BaseModel):
    """Answer of ``POST /v1/classify``."""

    model: str
    results: list[Result]
    ms: Milliseconds


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="A word for programs.")
    errors: list[dict[str, str]] | None = Field(None, description="Of each image: source, error, code.")


class Health(BaseModel):
    """Answer of ``GET /healthz``."""

    status: str = Field(description="'ok', or 'stuck': images wait, and none was finished for long.")


_FILE = {"type": "string", "format": "binary"}

BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"files": {"type": "array", "items": _FILE}},
                "description": "One or several files in fields named file, files, image or images.",
            }
        },
        "image/*": {"schema": _FILE},
        "application/octet-stream": {"schema": _FILE},
    },
}
