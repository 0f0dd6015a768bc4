"""Formats of files: images, label maps, COCO JSON, the names of PASCAL VOC, folders of labels."""
