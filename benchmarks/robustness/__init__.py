"""Robustness: trouble of seven kinds, made from outside, and whether the program says so.

Every case is a command line of `monai.bundle`, run in a child of its own on tiny phantoms (see `world`). Each kind of
trouble has its module:

    weights   a damaged byte in a file of weights
    volumes   a damaged byte in an image or label
    headers   a changed field of a NIfTI header
    kills     a kill
    disk      a full or read-only disk
    leaks     the same images on both sides of a line
    options   a wrong option

A case ends in one of these ways:

    right          exit status 0 and the answer of the undisturbed run: the same tensors, bit by bit, the same
                   segmentation or table. For a header, the answer that follows from what the header now says. Damage
                   that reaches no value, such as a time stamp in an archive, is right if it changes nothing.
    warned         exit status 0 and another answer, but a warning of the log names the file
    clear error    another exit status, and what the user reads last names the file, folder or option, has an order
                   that says what to do (a list of verbs; for an option the rule "must be ..., got ..." is enough), and
                   no line from the inside of a library
    unclear error  an error that the product itself raised, without one of these
    silent         exit status 0, another answer or a damaged file used, and not a word
    crash          an error that the product did not raise, a signal, or a command that does not end
    lost           something that was finished is gone or half-written, is left behind half-written after a restart, or
                   a run cannot go on, or ends in other weights than the undisturbed run

The first three are what is wanted. A file of weights counts as used silently whatever comes of it: a segmentation that
happens to be the same was made with other weights.
"""

from .campaign import measure

__all__ = ["measure"]
