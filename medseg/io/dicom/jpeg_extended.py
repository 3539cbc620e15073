"""JPEG Extended of 12 bits through GDCM, which pydicom uses for 8 bits alone.

A plugin as pydicom describes them (its guide, "Pixel data decoder plugins"). The values are those that SimpleITK, which
has GDCM in it, reads.
"""

from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("python-gdcm>=3.0.24",)}


def is_available(uid: str) -> bool:
    """Says whether this plugin decodes a transfer syntax, as pydicom asks it."""
    return uid == JPEGExtended12Bit


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes:
    """Returns the pixels of one frame, uncompressed, 16 bits a pixel.

    Args:
        encoded: The compressed frame.
        runner: pydicom's, which knows what the header says of it.
    """
    import gdcm  # here, since few inputs are JPEG of 12 bits

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(encoded)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(runner.photometric_interpretation)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(str.__str__(runner.transfer_syntax))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = runner.bits_stored
    image.SetPixelFormat(gdcm.PixelFormat(1, runner.bits_allocated, bits, bits - 1, runner.pixel_representation))
    # GDCM gives C's characters as a str.
    return bytes(image.GetBuffer().encode("utf-8", "surrogateescape"))
